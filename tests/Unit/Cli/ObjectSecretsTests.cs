using System.Text;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Cli;

public sealed class ObjectSecretsTests
{
    [Theory]
    [InlineData("secret,id=s,data=abc", "abc")]
    [InlineData("secret,id=s,data=a,,b", "a,b")]
    [InlineData("secret,data=YWJj,format=base64,id=s", "abc")]
    [InlineData("qom-type=secret,id=s,data=abc,format=raw", "abc")]
    [InlineData("""{"qom-type":"secret","id":"s","data":"abc"}""", "abc")]
    public void A_secret_on_the_command_line_is_found(string definition, string expected) =>
        Assert.Equal(expected, Encoding.UTF8.GetString(ObjectSecrets.Parse([definition]).Get("s").Span));

    [Fact]
    public void A_secret_in_a_file_is_taken_whole()
    {
        using var folder = new TempFolder();
        var file = folder.Write("password", "abc\n");
        Assert.Equal("abc\n", Encoding.UTF8.GetString(ObjectSecrets.Parse([$"secret,id=s,file={file}"]).Get("s").Span));
    }

    [Fact]
    public void What_is_wrong_with_a_secret_is_told()
    {
        var secrets = ObjectSecrets.Parse(["secret,id=s,file=/nonexistent/x", "secret,id=b,data=%,format=base64"]);
        Assert.Equal("/nonexistent/x: the password cannot be read: No such file or directory", Assert.Throws<BlockException>(() => secrets.Get("s")).Message);
        Assert.Equal("secret 'b' is not valid base64", Assert.Throws<BlockException>(() => secrets.Get("b")).Message);
        Assert.Equal(BlockErrorKind.NotFound, Assert.Throws<BlockException>(() => secrets.Get("other")).Kind);
    }
}
