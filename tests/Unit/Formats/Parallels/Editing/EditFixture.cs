using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bundle;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Editing;

/// <summary>A bundle in memory, opened and reopened, with what every state should read.</summary>
internal sealed class EditFixture(MemoryDirectory directory)
{
    public MemoryDirectory Directory { get; } = directory;

    public List<string> Warnings { get; } = [];

    public static EditFixture Of(BuiltBundle bundle) => new(MemoryDirectory.Of(bundle));

    public OpenContext Context(bool metadataOnly = false, bool forRepair = false) => new()
    {
        Formats = Opening.Formats,
        Storages = new NoOthers(),
        Gate = new ClosedGate("tests follow nothing"),
        MetadataOnly = metadataOnly || forRepair,
        ForRepair = forRepair,
        Warn = Warnings.Add,
    };

    public async Task<BundleNode> OpenAsync(bool writable = true, string? snapshot = null) =>
        (BundleNode)await new ParallelsBundleFormat().OpenAsync(Directory, new NodeOptions { ["snapshot"] = snapshot }, writable, Context());

    public async Task<byte[]> ReadAsync(string? snapshot = null)
    {
        await using var node = await OpenAsync(writable: false, snapshot);
        return await Opening.ReadAllAsync(node);
    }

    public static async Task FillAsync(BlockNode node, byte[] model, int seed, long at, int length)
    {
        var bytes = TestContent.Make(seed, at, length);
        bytes.CopyTo(model.AsSpan((int)at));
        await node.WriteAsync(new GuestOffset(at), bytes);
    }

    public async Task AssertReadsAsync(byte[] wanted, string? snapshot = null) => AssertSame(wanted, await ReadAsync(snapshot), snapshot ?? "the current state");

    public static void AssertSame(byte[] wanted, byte[] found, string what)
    {
        Assert.Equal(wanted.Length, found.Length);
        var same = wanted.AsSpan().CommonPrefixLength(found);
        Assert.True(same == wanted.Length, $"{what} differs at 0x{same:x}");
    }

    /// <summary>The bundle checks without a finding worse than a note, its two descriptors agree, and nothing is left over.</summary>
    public async Task AssertCleanAsync()
    {
        var findings = new List<CheckFinding>();
        await using (var node = (BundleNode)await new ParallelsBundleFormat().OpenAsync(Directory, new NodeOptions(), writable: false, Context(metadataOnly: true)))
        {
            await node.CheckAsync(findings.Add);
        }

        // A file that was cut and grown again may have holes; everything else would be worth a look.
        Assert.Empty(findings.Where(f => !f.Message.Contains(" between others ", StringComparison.Ordinal)).Select(f => $"{f.Severity} {f.File}: {f.Message}"));
        Assert.Equal(Directory.Bytes("DiskDescriptor.xml"), Directory.Bytes("DiskDescriptor.xml.Backup"));
        Assert.DoesNotContain(Directory.ListFiles(), f => f.EndsWith(".new", StringComparison.Ordinal) || f.EndsWith(".changes", StringComparison.Ordinal));
    }


    private sealed class NoOthers : StorageOpener
    {
        public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default) =>
            throw new InvalidOperationException("nothing is opened by name here");

        public override bool IsDirectory(NodeOptions options) => false;

        public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) =>
            throw new InvalidOperationException("nothing is opened by name here");

        public override bool IsStorageDriver(string driver) => driver is "file";
    }
}
