using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.TestKit;

/// <summary>A read-only storage over <see cref="SparseBytes"/>: images of any size without a file, with a count of what was read.</summary>
/// <remarks>Safe for many threads as long as nobody changes the bytes meanwhile.</remarks>
public sealed class SparseStorage(string name, SparseBytes bytes) : Storage
{
    private long _bytesRead;
    private long _reads;
    private int _disposed;

    /// <inheritdoc/>
    public override string Name => name;

    /// <inheritdoc/>
    public override long Length => bytes.Length;

    /// <inheritdoc/>
    public override StorageIdentity? Identity => IdentityOverride;

    /// <summary>Lets a test say that two storages are one file.</summary>
    public StorageIdentity? IdentityOverride { get; init; }

    /// <summary>Called before each read with (offset, length); throw here to simulate a failing host.</summary>
    public Action<long, int>? OnRead { get; init; }

    /// <summary>Requests so far.</summary>
    public long Reads => Interlocked.Read(ref _reads);

    /// <summary>Bytes handed out so far; tells whether a reader stays within its bounds.</summary>
    public long BytesRead => Interlocked.Read(ref _bytesRead);

    /// <summary>Whether somebody closed it.</summary>
    public bool IsDisposed => Volatile.Read(ref _disposed) != 0;

    /// <inheritdoc/>
    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        OnRead?.Invoke(at.Value, buffer.Length);
        var inside = (int)Math.Clamp(bytes.Length - at.Value, 0, buffer.Length);
        bytes.Read(at.Value, buffer.Span[..inside]);
        Interlocked.Increment(ref _reads);
        Interlocked.Add(ref _bytesRead, inside);
        return new(inside);
    }

    /// <inheritdoc/>
    public override ValueTask DisposeAsync()
    {
        Interlocked.Exchange(ref _disposed, 1);
        return base.DisposeAsync();
    }
}
