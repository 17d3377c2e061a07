using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>A storage whose N-th request of some kinds fails: once, or that one and all like it after it.</summary>
/// <param name="inner">Holds the bytes.</param>
/// <param name="kinds">Which requests count: any of w(rite), f(lush), r(ead), l(ength).</param>
/// <param name="kind">The error.</param>
/// <param name="goesOn">All later ones fail too.</param>
internal sealed class FailingStorage(MemoryStorage inner, string kinds, BlockErrorKind kind, bool goesOn) : Storage
{
    private long _left = long.MaxValue;

    public override string Name => inner.Name;

    public override long Length => inner.Length;

    public override bool IsReadOnly => false;

    /// <summary>What failed first, or null.</summary>
    public string? Failed { get; private set; }

    /// <summary>How often it was closed.</summary>
    public int Closed { get; private set; }

    /// <summary>The next request but <paramref name="after"/> fails.</summary>
    public void FailAfter(long after) => _left = after;

    /// <summary>No request fails any more.</summary>
    public void Heal() => _left = long.MaxValue;

    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        Count('r', $"read of {buffer.Length} at {at}");
        return inner.ReadAsync(at, buffer, cancellationToken);
    }

    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            Count('w', $"write of {buffer.Length} at {at}");
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
        Count('w', $"zeros of {length} at {at}");
        return inner.WriteZeroesAsync(at, length, mayUnmap, cancellationToken);
    }

    public override ValueTask FlushAsync(CancellationToken cancellationToken = default)
    {
        Count('f', "flush");
        return inner.FlushAsync(cancellationToken);
    }

    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
    {
        Count('l', $"length {length}");
        return inner.SetLengthAsync(length, cancellationToken);
    }

    public override ValueTask DisposeAsync()
    {
        Closed++;
        return base.DisposeAsync();
    }

    private void Count(char request, string what)
    {
        if (!kinds.Contains(request, StringComparison.Ordinal) || _left == long.MaxValue)
        {
            return;
        }

        if (_left-- > 0)
        {
            return;
        }

        Failed ??= what;
        _left = goesOn ? 0 : long.MaxValue;
        throw new BlockException(kind, $"{Name}: injected: {what}");
    }
}
