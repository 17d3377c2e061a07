using Platter.Core.Errors;
using Platter.Host.Files;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Host;

public sealed class FileDirectoryTests
{
    [Fact]
    public async Task Nothing_outside_can_be_reached()
    {
        using var folder = new TempFolder();
        folder.Write("secret", "x");
        var inside = folder.CreateFolder("disk.hdd");
        File.WriteAllText(Path.Combine(inside, "a.hds"), "a");
        Directory.CreateDirectory(Path.Combine(inside, "sub"));
        File.CreateSymbolicLink(Path.Combine(inside, "link.hds"), folder["secret"]);
        File.CreateSymbolicLink(Path.Combine(inside, "inner.hds"), "a.hds");
        File.CreateSymbolicLink(Path.Combine(inside, "loop.hds"), "loop.hds");
        Directory.CreateSymbolicLink(Path.Combine(inside, "out"), folder.Path);

        var directory = FileDirectory.Open(inside);
        foreach (var good in new[] { "a.hds", "inner.hds", "sub/../a.hds", "./a.hds", "../disk.hdd/a.hds" })
        {
            await using var file = await directory.OpenFileAsync(good);
            Assert.Equal(1, file.Length);
        }

        foreach (var bad in new[] { "../secret", "link.hds", "out/secret", folder["secret"], "sub/../../secret", "", ".", "..", "a\0b" })
        {
            var error = await Assert.ThrowsAsync<BlockException>(async () => await directory.OpenFileAsync(bad));
            Assert.Equal(BlockErrorKind.NotAllowed, error.Kind);
            Assert.False(directory.FileExists(bad));
        }

        var loop = await Assert.ThrowsAsync<BlockException>(async () => await directory.OpenFileAsync("loop.hds"));
        Assert.Contains("symbolic links", loop.Message, StringComparison.Ordinal);
        Assert.Equal(["sub"], directory.ListDirectories().Where(d => d != "out"));
    }

    [Fact]
    public async Task A_fifo_in_a_bundle_is_refused()
    {
        using var folder = new TempFolder();
        ToolRunner.RunChecked("mkfifo", folder["a.hds"]);
        var directory = FileDirectory.Open(folder.Path);
        var error = await Assert.ThrowsAsync<BlockException>(async () => await directory.OpenFileAsync("a.hds"));
        Assert.Equal(BlockErrorKind.NotAllowed, error.Kind);
    }
}
