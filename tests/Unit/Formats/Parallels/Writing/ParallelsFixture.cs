using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels;
using Platter.Formats.Parallels.Layout;
using Platter.TestKit;
using Platter.Tests.Unit.Formats.Qcow2.Writing;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels.Writing;

/// <summary>Opens images in memory for writing or reading.</summary>
internal static class ParallelsFixture
{
    public const string BitmapA = "8c3b0b5e-90dd-4e5e-a4a6-0d4f0d2f2ea1", BitmapB = "11111111-2222-3333-4444-555555555555";

    public static async Task<ImageNode> OpenAsync(
        Storage storage, ReferenceDisk? below = null, bool writable = true, NodeOptions? options = null, List<string>? warnings = null)
    {
        var driver = await new ParallelsFormat().OpenAsync(writable ? storage : new ReadOnly(storage), options ?? new NodeOptions(), Opening.Context(warnings));
        return new ImageNode(driver, WriteFixture.Backing(below));
    }

    public static async Task<MemoryStorage> CreateAsync(long size, string options = "")
    {
        var format = new ParallelsFormat();
        var storage = new MemoryStorage("test.hds", []);
        await format.CreateAsync(storage, size, format.CreateOptions.Normalize(NodeOptions.ParseKeyValues(options)), new CreateContext());
        return storage;
    }

    /// <summary>Checks clean, is closed, and has not a byte that it does not need: no leaks, no space ahead.</summary>
    public static async Task AssertCleanAsync(Storage storage)
    {
        await using var node = await OpenAsync(storage, writable: false);
        var findings = new List<string>();
        var report = await node.CheckAsync(f => findings.Add(f.Message));
        Assert.True(report is { Corruptions: 0, Leaks: 0, Errors: 0 }, string.Join("\n", findings.Take(20)));
        Assert.DoesNotContain(findings, text => text.Contains("Extension", StringComparison.Ordinal));
        Assert.Equal(report.ImageEndOffset, storage.Length);
        var header = await HeaderAsync(storage);
        Assert.Equal(node.Bitmaps.Count > 0 ? ParallelsHeader.InUseClosed : 0, header.InUse);
        Assert.Equal(header.ExtensionOffsetSectors != 0, node.Bitmaps.Count > 0);
    }

    public static async Task<ParallelsHeader> HeaderAsync(Storage storage)
    {
        var bytes = new byte[ParallelsHeader.Size];
        await storage.ReadAsync(default, bytes);
        return ParallelsHeader.Parse(bytes, storage.Name);
    }

    public sealed class ReadOnly(Storage inner) : Storage
    {
        public override string Name => inner.Name;

        public override long Length => inner.Length;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            inner.ReadAsync(at, buffer, cancellationToken);
    }
}
