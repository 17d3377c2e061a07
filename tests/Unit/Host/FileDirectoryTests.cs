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

    [Fact]
    public async Task Files_are_made_renamed_and_removed_inside_and_nowhere_else()
    {
        using var folder = new TempFolder();
        folder.Write("secret", "x");
        var directory = FileDirectory.Open(folder.CreateFolder("disk.hdd"));
        await using (var made = await directory.CreateFileAsync("a"))
        {
            await made.WriteAsync(default, "abc"u8.ToArray());
        }

        await using (var again = await directory.OpenFileForWritingAsync("a"))
        {
            await again.WriteAsync(default, "x"u8.ToArray());
        }

        folder.Write("disk.hdd/b", "old");
        await directory.RenameFileAsync("a", "b");
        await directory.SynchroniseAsync();
        Assert.Equal(["b"], directory.ListFiles());
        Assert.Equal("xbc", File.ReadAllText(folder["disk.hdd/b"]));
        var inner = await directory.CreateDirectoryAsync("sub");
        await (await inner.CreateFileAsync("c")).DisposeAsync();
        Assert.Equal(["c"], inner.ListFiles());
        await directory.RemoveFileAsync("b");
        await directory.RemoveFileAsync("b");
        Assert.Empty(directory.ListFiles());
        foreach (var bad in new[] { "../secret", folder["secret"], "", ".", "..", "a\0b", "sub/d" })
        {
            await RefusedAsync(async () => await directory.CreateFileAsync(bad));
            await RefusedAsync(async () => await directory.RemoveFileAsync(bad));
            await RefusedAsync(async () => await directory.RenameFileAsync("b", bad));
            await RefusedAsync(async () => await directory.RenameFileAsync(bad, "b"));
            await RefusedAsync(async () => await directory.CreateDirectoryAsync(bad));
        }

        Assert.Equal("x", File.ReadAllText(folder["secret"]));

        static async Task RefusedAsync(Func<Task> change) =>
            Assert.Equal(BlockErrorKind.NotAllowed, (await Assert.ThrowsAsync<BlockException>(change)).Kind);
    }

    [Fact]
    public async Task A_new_file_takes_over_permissions()
    {
        if (OperatingSystem.IsWindows())
        {
            Assert.Skip("permissions of Unix");
            return;
        }

        using var folder = new TempFolder();
        File.SetUnixFileMode(folder.Write("old", "x"), UnixFileMode.UserRead | UnixFileMode.GroupRead);
        var directory = FileDirectory.Open(folder.Path);
        await (await directory.CreateFileAsync("new", like: "old")).DisposeAsync();
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.GroupRead, File.GetUnixFileMode(folder["new"]));
        await (await directory.CreateFileAsync("other", like: "nothing")).DisposeAsync();
    }

    [Fact]
    public async Task A_link_is_not_written_through()
    {
        using var folder = new TempFolder();
        var secret = folder.Write("secret", "x");
        var directory = FileDirectory.Open(folder.CreateFolder("disk.hdd"));
        File.CreateSymbolicLink(folder["disk.hdd/link"], secret);
        File.CreateSymbolicLink(folder["disk.hdd/dangling"], folder["new"]);
        Assert.Equal(BlockErrorKind.NotAllowed, (await Assert.ThrowsAsync<BlockException>(async () => await directory.OpenFileForWritingAsync("link"))).Kind);
        Assert.Equal(BlockErrorKind.InvalidRequest, (await Assert.ThrowsAsync<BlockException>(async () => await directory.CreateFileAsync("dangling"))).Kind);
        await directory.RemoveFileAsync("link");
        Assert.Equal("x", File.ReadAllText(secret));
        Assert.False(File.Exists(folder["new"]));
    }
}
