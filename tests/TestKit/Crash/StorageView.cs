using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.TestKit;

/// <summary>An opening of a storage that outlives it, for reading or for writing.</summary>
public sealed class StorageView(Storage inner, bool writable, string? name = null) : Storage
{
    /// <inheritdoc/>
    public override string Name => name ?? inner.Name;

    /// <inheritdoc/>
    public override long Length => inner.Length;

    /// <inheritdoc/>
    public override bool IsReadOnly => !writable;

    /// <inheritdoc/>
    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        inner.ReadAsync(at, buffer, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        writable ? inner.WriteAsync(at, buffer, cancellationToken) : base.WriteAsync(at, buffer, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default) =>
        writable ? inner.WriteZeroesAsync(at, length, mayUnmap, cancellationToken) : base.WriteZeroesAsync(at, length, mayUnmap, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<bool> TryZeroFastAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default) =>
        writable ? inner.TryZeroFastAsync(at, length, mayUnmap, cancellationToken) : base.TryZeroFastAsync(at, length, mayUnmap, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) =>
        writable ? inner.SetLengthAsync(length, cancellationToken) : base.SetLengthAsync(length, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(HostOffset at, long length, CancellationToken cancellationToken = default) =>
        writable ? inner.DiscardAsync(at, length, cancellationToken) : ValueTask.CompletedTask;

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => inner.FlushAsync(cancellationToken);
}
