using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.TestKit;

/// <summary>A storage over a <see cref="SimulatedFile"/>: every write, write of zeros, change of length and flush is remembered.</summary>
/// <remarks>Disposing it flushes nothing, as closing a file does not.</remarks>
public sealed class SimulatedStorage : Storage
{
    private readonly SimulatedFile _file;
    private readonly bool _writable;

    internal SimulatedStorage(SimulatedFile file, bool writable, string name) => (_file, _writable, Name) = (file, writable, name);

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override long Length => _file.Length;

    /// <inheritdoc/>
    public override bool IsReadOnly => !_writable;

    /// <inheritdoc/>
    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return new(_file.Read(at.Value, buffer.Span));
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return _writable
            ? RecordAsync(at.Value, buffer.ToArray(), buffer.Length, setsLength: false)
            : base.WriteAsync(at, buffer, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default) =>
        _writable ? RecordAsync(at.Value, null, length, setsLength: false) : base.WriteZeroesAsync(at, length, mayUnmap, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroFastAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        await WriteZeroesAsync(at, length, mayUnmap, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <inheritdoc/>
    /// <remarks>A hole is zeros that arrive when they like, as any write.</remarks>
    public override ValueTask DiscardAsync(HostOffset at, long length, CancellationToken cancellationToken = default) =>
        _writable && at.Value < Length ? RecordAsync(at.Value, null, Math.Min(length, Length - at.Value), setsLength: false) : ValueTask.CompletedTask;

    /// <inheritdoc/>
    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) =>
        _writable ? RecordAsync(length, null, 0, setsLength: true) : base.SetLengthAsync(length, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken = default)
    {
        var begun = _file.BeginFlush();
        await DelayAsync().ConfigureAwait(false);
        _file.CompleteFlush(begun);
    }

    private async ValueTask RecordAsync(long at, byte[]? bytes, long length, bool setsLength)
    {
        if (!setsLength && at + length > _file.Room)
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"{Name}: no space left (by order of a test)");
        }

        var write = _file.Begin(at, bytes, length, setsLength);
        await DelayAsync().ConfigureAwait(false);
        _file.Complete(write);
    }

    private async ValueTask DelayAsync()
    {
        if (_file.Disk.IsSlow)
        {
            await Task.Yield();
        }
    }
}
