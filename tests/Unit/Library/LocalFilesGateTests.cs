using Platter.Core.Errors;
using Platter.Core.Images;
using Xunit;

namespace Platter.Tests.Unit.Library;

public sealed class LocalFilesGateTests
{
    private static readonly LocalFilesGate s_gate = new();

    private static ImageReference Named(string name, string? directory = "/images") =>
        new(ReferenceKind.Backing, name, null, "/images/top.qcow2", directory);

    [Theory]
    [InlineData("base.raw", "/images/base.raw")]
    [InlineData("../base.raw", "/images/../base.raw")]
    [InlineData("/srv/base.raw", "/srv/base.raw")]
    [InlineData("file:base.raw", "/images/base.raw")]
    [InlineData("./a:b", "/images/./a:b")]
    [InlineData("json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"b.qcow2\"}}", "/images/b.qcow2")]
    [InlineData("json:{\"file.filename\":\"b.qcow2\"}", "/images/b.qcow2")]
    public void Local_files_pass(string name, string path)
    {
        var options = s_gate.Resolve(Named(name));
        Assert.Equal(path, options["filename"] ?? options["file.filename"]);
    }

    [Theory]
    [InlineData("nbd://localhost/x")]
    [InlineData("nbd+unix:///x?socket=/s")]
    [InlineData("nbd:localhost:10809")]
    public void Nbd_exports_pass(string name) => Assert.Equal("nbd", s_gate.Resolve(Named(name)).Driver);

    [Theory]
    [InlineData("http://example.org/x")]
    [InlineData("fat:rw:/etc")]
    [InlineData("ssh://host/x")]
    [InlineData("exec:rm")]
    [InlineData("fd:3")]
    [InlineData("")]
    [InlineData("a\0b")]
    [InlineData("json:{\"driver\":\"blkdebug\",\"image\":{\"driver\":\"file\",\"filename\":\"x\"}}")]
    [InlineData("json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"curl\",\"url\":\"http://x\"}}")]
    [InlineData("json:{\"file\":{\"driver\":\"file\",\"filename\":\"http://x/y\"}}")]
    [InlineData("json:nonsense")]
    public void Everything_else_is_refused_by_name(string name)
    {
        var error = Assert.Throws<BlockException>(() => s_gate.Resolve(Named(name)));
        Assert.Equal(BlockErrorKind.NotAllowed, error.Kind);
        Assert.StartsWith("/images/top.qcow2: backing file '", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\0', error.Message);
    }

    [Fact]
    public void A_relative_name_needs_a_directory() => Assert.Throws<BlockException>(() => s_gate.Resolve(Named("base", directory: null)));
}
