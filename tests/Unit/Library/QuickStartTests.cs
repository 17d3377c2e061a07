using System.Security.Cryptography;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Library;

public sealed class QuickStartTests
{
    [Fact]
    public void The_readme_shows_the_source_that_is_run_here()
    {
        var file = RepositoryFile.Read("tests/Unit/Library/QuickStart.cs").Split('\n');
        var usings = file.TakeWhile(line => line.StartsWith("using ", StringComparison.Ordinal));
        var body = file.SkipWhile(line => line.Trim() != "// README begins").Skip(1).TakeWhile(line => line.Trim() != "// README ends")
            .Select(line => line.Length > 8 ? line[8..] : line.Trim());
        var block = Assert.Single(MarkdownFile.Read("README.md").CodeBlocks("csharp"));
        Assert.Equal(string.Join('\n', [.. usings, string.Empty, .. body]), block);
    }

    [Fact]
    public async Task The_quick_start_does_what_it_says()
    {
        using var folder = new TempFolder("quick");
        await QuickStart.RunAsync([DemoSample.Machine, folder["clean.raw"]]);
        Assert.Equal("parallels-bundle: 16777216 bytes, 2 snapshots", QuickStart.Console.Lines[0]);
        Assert.Equal("0x0: 65536 bytes at 0x10000 of layer 0", QuickStart.Console.Lines[1]);
        Assert.Equal("16777216 bytes are served", QuickStart.Console.Lines[^2]);
        Assert.Equal("no-such.qcow2: Could not open: No such file or directory", QuickStart.Console.Lines[^1]);
        Assert.Equal(DemoSample.Sha256["Clean install"], Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(folder["clean.raw"]))));
    }

    [Fact]
    public async Task A_stream_reads_the_disk_from_any_position()
    {
        await using var disk = await Disk.OpenAsync(DemoSample.Machine, cancellationToken: TestContext.Current.CancellationToken);
        await using var stream = disk.AsStream();
        Assert.Equal((true, true, false, DemoSample.SizeBytes), (stream.CanRead, stream.CanSeek, stream.CanWrite, stream.Length));
        Assert.Equal(DemoSample.Sha256["current"], Convert.ToHexStringLower(await SHA256.HashDataAsync(stream, TestContext.Current.CancellationToken)));
        stream.Seek(-10, SeekOrigin.End);
        Assert.Equal(10, stream.Read(new byte[64]));
        Assert.Equal(0, stream.Read(new byte[64]));

        // The magic of ext4, where its superblock has it.
        stream.Position = 1024 + 56;
        Assert.Equal((0x53, 0xef), (stream.ReadByte(), stream.ReadByte()));
        Assert.Throws<IOException>(() => stream.Seek(-1, SeekOrigin.Begin));
        Assert.Throws<NotSupportedException>(() => stream.Write("x"u8));
    }
}
