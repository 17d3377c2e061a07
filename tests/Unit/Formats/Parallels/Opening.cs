using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels;
using Platter.Formats.Raw;
using Xunit;

namespace Platter.Tests.Unit.Formats;

/// <summary>What the tests of these rooms need to open an image without the façade.</summary>
internal static class Opening
{
    public static FormatRegistry Formats { get; } = new([new RawFormat(), new ParallelsFormat()], []);

    /// <summary>A context whose warnings go into <paramref name="warnings"/>.</summary>
    public static OpenContext Context(List<string>? warnings = null, OpenLimits? limits = null, OpenGate? gate = null, StorageOpener? storages = null) => new()
    {
        Formats = Formats,
        Storages = storages ?? new NoStorages(),
        Gate = gate ?? new ClosedGate("tests follow nothing"),
        Limits = limits ?? OpenLimits.Default,
        Warn = text => warnings?.Add(text),
    };

    public static async Task<ImageNode> OpenAsync(
        Storage storage, string format, NodeOptions? options = null, List<string>? warnings = null, OpenContext? context = null) =>
        new(await Formats.Get(format).OpenAsync(storage, options ?? new NodeOptions(), context ?? Context(warnings)), backing: null);

    public static async Task<List<Extent>> MapAllAsync(BlockNode node, MapDetail detail = MapDetail.Metadata)
    {
        List<Extent> extents = [];
        for (var at = GuestOffset.Zero; at.Value < node.VirtualSize; at = extents[^1].End)
        {
            extents.Add(await node.MapAsync(at, node.VirtualSize - at.Value, detail));
            Assert.True(extents[^1].Length > 0);
        }

        return extents;
    }

    public static async Task<byte[]> ReadAllAsync(BlockNode node)
    {
        var bytes = new byte[node.VirtualSize];
        await node.ReadAsync(GuestOffset.Zero, bytes);
        return bytes;
    }

    private sealed class NoStorages : StorageOpener
    {
        public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default) =>
            throw new InvalidOperationException("nothing is opened by name here");

        public override bool IsDirectory(NodeOptions options) => false;

        public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) =>
            throw new InvalidOperationException("nothing is opened by name here");

        public override bool IsStorageDriver(string driver) => driver is "file";
    }
}
