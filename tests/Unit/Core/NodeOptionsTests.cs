using Platter.Core.Errors;
using Platter.Core.Images;
using Xunit;

namespace Platter.Tests.Unit.Core;

public sealed class NodeOptionsTests
{
    [Fact]
    public void A_doubled_comma_is_a_comma()
    {
        var options = NodeOptions.ParseKeyValues("driver=qcow2,file.filename=a,,b.qcow2,x=");
        Assert.Equal("qcow2", options.Driver);
        Assert.Equal("a,b.qcow2", options.Child("file")["filename"]);
        Assert.Equal(string.Empty, options["x"]);
    }

    [Fact]
    public void Json_becomes_dotted_keys()
    {
        var options = NodeOptions.ParseJson("""{"driver":"qcow2","backing":null,"file":{"driver":"file","filename":"x","n":[{"a":1},true]}}""");
        Assert.True(options.Has("backing"));
        Assert.Null(options["backing"]);
        Assert.Equal("x", options["file.filename"]);
        Assert.Equal("1", options["file.n.0.a"]);
        Assert.Equal("on", options["file.n.1"]);
        Assert.True(options.HasChild("file"));
        Assert.False(options.HasChild("fil"));
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("{")]
    [InlineData("{\"a\":")]
    public void Bad_json_is_one_clear_error(string json)
    {
        var error = Assert.Throws<BlockException>(() => NodeOptions.ParseJson(json));
        Assert.Equal(BlockErrorKind.InvalidRequest, error.Kind);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Fact]
    public void Json_that_is_nested_too_deeply_is_refused() =>
        Assert.Throws<BlockException>(() => NodeOptions.ParseJson(string.Concat(Enumerable.Repeat("{\"a\":", 1000)) + "1" + new string('}', 1000)));

    [Fact]
    public void Json_that_is_too_long_is_refused()
    {
        var error = Assert.Throws<BlockException>(() => NodeOptions.ParseJson("{\"a\":\"" + new string('x', 100_000) + "\"}"));
        Assert.Equal(BlockErrorKind.LimitExceeded, error.Kind);
    }
}
