using System.Buffers;
using Platter.Core.Codecs;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Writing;

// Compressed clusters: encoded without any lock, packed one behind the other, each with one reference to every host cluster that it touches.
internal sealed partial class Qcow2Writer
{
    /// <inheritdoc/>
    public override async ValueTask<bool> TryWriteCompressedAsync(GuestOffset at, ReadOnlyMemory<byte> cluster, CancellationToken cancellationToken = default)
    {
        ThrowIfNotCompressible();
        var buffer = ArrayPool<byte>.Shared.Rent(_geometry.ClusterSize);
        try
        {
            var length = Compress(cluster.Span, buffer.AsSpan(0, _geometry.ClusterSize - 1));
            if (length <= 0)
            {
                return false;
            }

            var host = await ReserveBytesAsync(at, length, cancellationToken).ConfigureAwait(false);
            try
            {
                _storage.Announce(StorageEvent.WriteCompressed);
                await _storage.WriteAsync(host, buffer.AsMemory(0, length), cancellationToken).ConfigureAwait(false);
            }
            catch
            {
                await ReleaseBytesAsync(host, length).ConfigureAwait(false);
                throw;
            }

            await PublishAsync(at, L2Entry.Compressed(host, length, _geometry)).ConfigureAwait(false);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }

        await CheckpointIfFullAsync(cancellationToken).ConfigureAwait(false);
        return true;
    }

    private void ThrowIfNotCompressible()
    {
        if (_hasDataFile || _cipher is not null)
        {
            throw new BlockException(
                BlockErrorKind.Unsupported, $"{_storage.Name}: an image with {(_hasDataFile ? "an external data file" : "encryption")} cannot hold compressed clusters");
        }
    }

    private int Compress(ReadOnlySpan<byte> cluster, Span<byte> output)
    {
        using var compressor = _header.Header.CompressionType == CompressionType.Zstd
            ? _codecs.RentZstdCompressor(_compressionLevel)
            : _codecs.RentDeflate(_compressionLevel);
        return compressor.Compress(cluster, output);
    }

    private async ValueTask<HostOffset> ReserveBytesAsync(GuestOffset at, int length, CancellationToken cancellationToken)
    {
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _checkpoint.ThrowIfBroken();
            await OwnTableAsync(at, cancellationToken).ConfigureAwait(false);
            await ThrowIfInMetadataAsync((await _tables.GetEntryAsync(at, cancellationToken).ConfigureAwait(false)).Entry).ConfigureAwait(false);
            var host = await _allocator.AllocateBytesAsync(length, cancellationToken).ConfigureAwait(false);
            var (first, count) = ClustersOf(host, length);
            if ((host.Value + length - 1) >> _geometry.CompressedOffsetBits != 0)
            {
                await _allocator.ReleaseAsync(first, count).ConfigureAwait(false);
                throw new BlockException(
                    BlockErrorKind.NoSpace, $"{_storage.Name}: the format cannot address compressed bytes at {host}: {_geometry.CompressedOffsetBits} bits are too few");
            }

            // Readers take whole sectors, the last one too.
            await CoverAllocatedAsync(cancellationToken).ConfigureAwait(false);
            return host;
        }
        finally
        {
            _changing.Release();
        }
    }

    private async ValueTask ReleaseBytesAsync(HostOffset host, int length)
    {
        await _changing.WaitAsync().ConfigureAwait(false);
        try
        {
            var (first, count) = ClustersOf(host, length);
            await _allocator.ReleaseAsync(first, count).ConfigureAwait(false);
        }
        finally
        {
            _changing.Release();
        }
    }

    private async ValueTask PublishAsync(GuestOffset at, L2Entry entry)
    {
        await _changing.WaitAsync().ConfigureAwait(false);
        try
        {
            var (old, _) = await _tables.GetEntryAsync(at, CancellationToken.None).ConfigureAwait(false);
            await _tables.SetEntryAsync(at, entry, default, CancellationToken.None).ConfigureAwait(false);
            RetireEntry(old);
        }
        finally
        {
            _changing.Release();
        }
    }

    private (long First, long Count) ClustersOf(HostOffset host, int length)
    {
        var first = host.Value >> _geometry.ClusterBits;
        return (first, ((host.Value + length - 1) >> _geometry.ClusterBits) - first + 1);
    }
}
