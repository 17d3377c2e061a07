using System.Text.Json;
using System.Text.Json.Nodes;
using Platter.Cli.Output;
using Xunit;

namespace Platter.Tests.Unit.Cli;

public sealed class JsonOutputTests
{
    [Fact]
    public void The_shape_is_that_of_qemu_img()
    {
        var text = Write(json =>
        {
            json.BeginObject();
            json.Member("a", 1);
            json.Name("list");
            json.BeginArray();
            json.Value("x");
            json.BeginObject();
            json.EndObject();
            json.EndArray();
            json.Name("empty");
            json.BeginArray();
            json.EndArray();
            json.Member("flag", true);
            json.EndObject();
            json.Finish();
        });
        Assert.Equal(
            """
            {
                "a": 1,
                "list": [
                    "x",
                    {
                    }
                ],
                "empty": [
                ],
                "flag": true
            }

            """,
            text);
    }

    [Fact]
    public void A_node_is_written_as_its_members_would_be()
    {
        var node = JsonNode.Parse("""{"a":[1,true,null,"x\u2603",{"b":-2}],"c":{}}""")!;
        var text = Write(json => json.Value(node));
        Assert.True(JsonNode.DeepEquals(node, JsonNode.Parse(text)));
        Assert.Contains("\n    \"a\": [\n        1,\n        true,\n        null,\n        \"x\\u2603\",", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("plain 'text' <+&>", "plain 'text' <+&>")]
    [InlineData("\"\\/", "\\\"\\\\/")]
    [InlineData("\b\f\n\r\t", "\\b\\f\\n\\r\\t")]
    [InlineData("\u001b[31m\u007f\u0085", "\\u001B[31m\\u007F\\u0085")]
    [InlineData("\u00fc\u202e\U0001F600", "\\u00FC\\u202E\\uD83D\\uDE00")]
    public void Strings_are_ascii_and_come_back_as_they_were(string text, string escaped)
    {
        var written = Write(json => json.Value(text));
        Assert.Equal($"\"{escaped}\"", written);
        Assert.Equal(text, JsonDocument.Parse(written).RootElement.GetString());
    }

    private static string Write(Action<JsonOutput> write)
    {
        var writer = new StringWriter();
        write(new JsonOutput(writer));
        return writer.ToString();
    }
}
