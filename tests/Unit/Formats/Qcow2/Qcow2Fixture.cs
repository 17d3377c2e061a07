using Platter.Core.Codecs;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Metadata;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Platter.Host.Codecs;
using Platter.TestKit;
using Xunit;
using BuiltImage = Platter.TestKit.Qcow2Image;

namespace Platter.Tests.Unit.Formats.Qcow2;

/// <summary>Opens built images and compares them with their models.</summary>
internal static class Qcow2Fixture
{
    public static OpenContext Context(
        BuiltImage? image = null, bool metadataOnly = false, CodecProvider? codecs = null, List<string>? warnings = null, long cacheBytes = 4 << 20) => new()
        {
            Formats = new FormatRegistry([new Qcow2Format()], []),
            Storages = new OneDataFile(image?.DataFile),
            Gate = new AnyName(),
            Codecs = codecs ?? HostCodecs.Instance,
            MetadataOnly = metadataOnly,
            Cache = new MetadataCache(cacheBytes),
            Warn = w => warnings?.Add(w),
        };

    public static ValueTask<ImageDriver> OpenDriverAsync(BuiltImage image, OpenContext? context = null) =>
        new Qcow2Format().OpenAsync(image.ToStorage(), new NodeOptions(), context ?? Context(image));

    public static async ValueTask<ImageNode> OpenAsync(BuiltImage image, OpenContext? context = null) =>
        new(await OpenDriverAsync(image, context), null);

    /// <summary>Opening fails, with this kind and these words.</summary>
    public static async Task<ImageFormatException> AssertRefusedAsync(
        BuiltImage image, BlockErrorKind kind, string structure, string field, params string[] words)
    {
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await OpenDriverAsync(image));
        AssertSays(error, kind, structure, field, words);
        return error;
    }

    public static void AssertSays(ImageFormatException error, BlockErrorKind kind, string structure, string field, params string[] words)
    {
        Assert.Equal(kind, error.Kind);
        Assert.Equal("test.qcow2", error.File);
        Assert.StartsWith(structure, error.Structure, StringComparison.Ordinal);
        Assert.Equal(field, error.Field);
        Assert.DoesNotContain('\n', error.Message);
        Assert.All(words, w => Assert.Contains(w, error.Message, StringComparison.Ordinal));
    }

    /// <summary>All of the disk, and pieces of it at random, read as the model says; the map agrees with what is read.</summary>
    public static async Task AssertReadsAsAsync(BlockNode node, ReferenceDisk model, int seed)
    {
        Assert.Equal(model.Size, node.VirtualSize);
        await model.AssertEqualAsync(
            async (at, buffer) =>
            {
                var count = (int)Math.Min(buffer.Length, node.VirtualSize - at);
                await node.ReadAsync(new(at), buffer[..count]);
                return count;
            },
            seed);
        for (var at = GuestOffset.Zero; at.Value < node.VirtualSize;)
        {
            var extent = await node.MapAsync(at, long.MaxValue);
            Assert.Equal(at, extent.Offset);
            Assert.InRange(extent.Length, 1, node.VirtualSize - at.Value);
            if (extent.ReadsZero)
            {
                var probe = model.Slice(at.Value, (int)Math.Min(extent.Length, 1 << 20));
                Assert.DoesNotContain(probe, b => b != 0);
            }

            at = extent.End;
        }
    }

    private sealed class AnyName : OpenGate
    {
        public override NodeOptions Resolve(ImageReference reference) => NodeOptions.ForFile(reference.Name);
    }

    private sealed class OneDataFile(SparseBytes? bytes) : StorageOpener
    {
        public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default) =>
            new(new SparseStorage(options["filename"]!, bytes ?? throw new BlockException(BlockErrorKind.NotFound, "no data file")));

        public override bool IsDirectory(NodeOptions options) => false;

        public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public override bool IsStorageDriver(string driver) => driver == "file";
    }
}
