using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Bytes in memory with holes, which do not forgive: a request at a negative offset is an error of ours, and so is one after closing.</summary>
internal sealed class StrictStorage(string name, SparseBytes bytes, StorageIdentity identity) : Storage
{
    private const int HoleBytes = 4096;

    private long? _allocated;

    public override string Name => name;

    public override long Length => bytes.Length;

    public override StorageIdentity? Identity => identity;

    public override string? BaseDirectory => ".";

    /// <summary>Fewer bytes than the file is long, as with a sparse file, so that readers look for holes.</summary>
    public override long? AllocatedSize => _allocated ??= bytes.DataRanges().Sum(r => r.Length) / 2;

    public bool IsClosed { get; private set; }

    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        Demand(at.Value, buffer.Length);
        if (at.Value >= bytes.Length)
        {
            return new(0);
        }

        var inside = (int)Math.Min(bytes.Length - at.Value, buffer.Length);
        bytes.Read(at.Value, buffer.Span[..inside]);
        return new(inside);
    }

    public override ValueTask<StorageExtent> MapAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        Demand(at.Value, length);
        if (at.Value >= bytes.Length || length <= 0)
        {
            throw new FuzzException($"{name} of {bytes.Length} bytes was asked for its holes from {at} for {length} bytes");
        }

        var end = Math.Min(length, HoleBytes - (at.Value % HoleBytes));
        var isHole = !bytes.Slice(at.Value, (int)end).AsSpan().ContainsAnyExcept((byte)0);
        return new(new StorageExtent(end, !isHole, isHole));
    }

    public override ValueTask DisposeAsync()
    {
        IsClosed = true;
        return base.DisposeAsync();
    }

    private void Demand(long at, long length)
    {
        if (at < 0 || length < 0)
        {
            throw new FuzzException($"{name} was asked for {length} bytes at {at}");
        }

        if (IsClosed)
        {
            throw new FuzzException($"{name} was read after it was closed");
        }
    }
}
