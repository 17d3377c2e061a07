using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>A storage whose requests are counted by a <see cref="FaultCounter"/>, and fail when it says so. Disposing it leaves the bytes where they are.</summary>
/// <param name="inner">Holds the bytes.</param>
/// <param name="counter">Decides; several storages may share one.</param>
internal sealed class FailingStorage(Storage inner, FaultCounter counter) : Storage
{
    public FailingStorage(MemoryStorage inner, string kinds, BlockErrorKind kind, bool goesOn)
        : this(inner, new FaultCounter(kinds, kind, goesOn))
    {
    }

    public override string Name => inner.Name;

    public override long Length => inner.Length;

    public override bool IsReadOnly => inner.IsReadOnly;

    /// <summary>What failed first, or null.</summary>
    public string? Failed => counter.Failed;

    /// <summary>How often it was closed.</summary>
    public int Closed { get; private set; }

    /// <summary>The next request but <paramref name="after"/> fails.</summary>
    public void FailAfter(long after) => counter.FailAfter(after);

    /// <summary>No request fails any more.</summary>
    public void Heal() => counter.Heal();

    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        counter.Count('r', $"{Name}: read of {buffer.Length} at {at}");
        return inner.ReadAsync(at, buffer, cancellationToken);
    }

    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            counter.Count('w', $"{Name}: write of {buffer.Length} at {at}");
        }
        catch (BlockException)
        {
            // The first sector may have arrived.
            var first = (int)Math.Min(buffer.Length, Sizes.SectorBytes - (at.Value % Sizes.SectorBytes));
            _ = inner.WriteAsync(at, buffer[..first], cancellationToken).AsTask();
            throw;
        }

        return inner.WriteAsync(at, buffer, cancellationToken);
    }

    public override ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        counter.Count('w', $"{Name}: zeros of {length} at {at}");
        return inner.WriteZeroesAsync(at, length, mayUnmap, cancellationToken);
    }

    public override ValueTask FlushAsync(CancellationToken cancellationToken = default)
    {
        counter.Count('f', $"{Name}: flush");
        return inner.FlushAsync(cancellationToken);
    }

    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
    {
        counter.Count('l', $"{Name}: length {length}");
        return inner.SetLengthAsync(length, cancellationToken);
    }

    public override ValueTask DisposeAsync()
    {
        Closed++;
        return base.DisposeAsync();
    }
}
