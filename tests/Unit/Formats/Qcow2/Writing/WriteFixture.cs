using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Platter.Host.Codecs;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Opens images in memory for writing or reading, and compares them with bytes.</summary>
internal static class WriteFixture
{
    public static async Task<ImageNode> OpenAsync(Storage storage, MemoryStorage? data = null, ReferenceDisk? below = null, bool writable = true, bool keepsSpace = false)
    {
        var context = new OpenContext
        {
            Formats = new FormatRegistry([new Qcow2Format()], []),
            Storages = new OneStorage(data),
            Gate = new AnyName(),
            Codecs = HostCodecs.Instance,
            KeepsSpace = keepsSpace,
        };
        var driver = await new Qcow2Format().OpenAsync(writable ? storage : new ReadOnly(storage), new NodeOptions(), context);
        return new ImageNode(driver, Backing(below));
    }

    public static BlockNode? Backing(ReferenceDisk? below) =>
        below is null ? null : new ImageNode(new Platter.Formats.Raw.RawImage(new MemoryStorage("base", below.ToArray(), readOnly: true), default, below.Size), null);

    public static async Task AssertReadsAsync(BlockNode node, byte[] model)
    {
        Assert.Equal(model.Length, node.VirtualSize);
        var buffer = new byte[model.Length];
        await node.ReadAsync(default, buffer);
        var same = buffer.AsSpan().CommonPrefixLength(model);
        Assert.True(same == model.Length, $"differs from the model at 0x{same:x} of 0x{model.Length:x}");
    }

    public static async Task AssertCleanAsync(Storage storage, MemoryStorage? data = null, ReferenceDisk? below = null)
    {
        await using var node = await OpenAsync(storage, data, below, writable: false);
        var findings = new List<string>();
        var report = await node.CheckAsync(f => findings.Add(f.Message));
        Assert.True(report is { Corruptions: 0, Leaks: 0, Errors: 0 }, string.Join("\n", findings.Take(20)));
    }

    private sealed class AnyName : OpenGate
    {
        public override NodeOptions Resolve(ImageReference reference) => NodeOptions.ForFile(reference.Name);
    }

    private sealed class OneStorage(Storage? data) : StorageOpener
    {
        public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default) =>
            new(mode.Writable ? data! : new ReadOnly(data!));

        public override bool IsDirectory(NodeOptions options) => false;

        public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public override bool IsStorageDriver(string driver) => driver == "file";
    }

    private sealed class ReadOnly(Storage inner) : Storage
    {
        public override string Name => inner.Name;

        public override long Length => inner.Length;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            inner.ReadAsync(at, buffer, cancellationToken);
    }
}
