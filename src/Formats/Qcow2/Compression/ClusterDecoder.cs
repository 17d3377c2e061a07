using System.Buffers;
using System.Globalization;
using Platter.Core.Codecs;
using Platter.Core.Errors;
using Platter.Core.Metadata;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Compression;

/// <summary>Turns compressed clusters into bytes.</summary>
/// <remarks>
/// A whole cluster is decoded straight into the caller's buffer. Part of one is decoded whole once and kept in the graph's cache, so that
/// small sequential reads do not decode a cluster again and again. Output never exceeds a cluster, input never two. In a writable
/// image nothing is kept: the place of a cluster may be another's by the next request. Thread-safe.
/// </remarks>
internal sealed class ClusterDecoder(
    Storage storage, Qcow2Geometry geometry, CompressionType type, CodecProvider codecs, MetadataCache cache, bool isKept)
{
    private readonly int _owner = MetadataCache.NewOwner();

    /// <summary>Reads part of a compressed cluster.</summary>
    /// <param name="guestCluster">Where the cluster starts on the disk, for messages.</param>
    /// <param name="at">Host offset of its compressed bytes.</param>
    /// <param name="compressedLength">How many they are at most.</param>
    /// <param name="inCluster">First byte wanted.</param>
    /// <param name="buffer">Filled entirely.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    public ValueTask ReadAsync(
        GuestOffset guestCluster, HostOffset at, int compressedLength, int inCluster, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (buffer.Length == geometry.ClusterSize)
        {
            return DecodeAsync(guestCluster, at, compressedLength, buffer, cancellationToken);
        }

        if (isKept && cache.TryGet(_owner, at.Value, out byte[]? decoded))
        {
            decoded.AsSpan(inCluster, buffer.Length).CopyTo(buffer.Span);
            return ValueTask.CompletedTask;
        }

        return DecodeAndKeepAsync(guestCluster, at, compressedLength, inCluster, buffer, cancellationToken);
    }

    private async ValueTask DecodeAndKeepAsync(
        GuestOffset guestCluster, HostOffset at, int compressedLength, int inCluster, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var decoded = GC.AllocateUninitializedArray<byte>(geometry.ClusterSize);
        await DecodeAsync(guestCluster, at, compressedLength, decoded, cancellationToken).ConfigureAwait(false);
        if (isKept)
        {
            cache.Add(_owner, at.Value, decoded, decoded.Length);
        }

        decoded.AsSpan(inCluster, buffer.Length).CopyTo(buffer.Span);
    }

    private async ValueTask DecodeAsync(
        GuestOffset guestCluster, HostOffset at, int compressedLength, Memory<byte> cluster, CancellationToken cancellationToken)
    {
        var input = ArrayPool<byte>.Shared.Rent(compressedLength);
        try
        {
            storage.Announce(StorageEvent.ReadCompressed);

            // The file may end before the last sector of the last cluster does.
            var read = await storage.ReadAsync(at, input.AsMemory(0, compressedLength), cancellationToken).ConfigureAwait(false);
            int written;
            using (var decompressor = type == CompressionType.Zstd ? codecs.RentZstd() : codecs.RentInflate())
            {
                written = decompressor.Decompress(input.AsSpan(0, read), cluster.Span);
            }

            if (written != geometry.ClusterSize)
            {
                throw new ImageFormatException(
                    storage.Name, $"compressed cluster of guest offset {guestCluster}", at, string.Empty, string.Empty,
                    written < 0
                        ? $"is not a valid {(type == CompressionType.Zstd ? "zstd" : "deflate")} stream within its {compressedLength} bytes"
                        : string.Create(CultureInfo.InvariantCulture, $"decodes to {written} bytes only, a cluster has {geometry.ClusterSize}"));
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(input);
        }
    }
}
