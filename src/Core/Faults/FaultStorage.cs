using System.Buffers;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Faults;

/// <summary>A filter around a storage that makes requests fail by rules, or wait at breakpoints: QEMU's <c>blkdebug</c>. Sits below a format, like any storage, or over an image.</summary>
/// <remarks>What the format says its accesses are for (<see cref="Announce"/>) are the events; <see cref="StorageEvent.Pwritev"/> and the like happen here. Where requests run
/// side by side, an event counts for whichever comes next.</remarks>
public sealed class FaultStorage : Storage
{
    private const int EDQUOT = 122, EFBIG = 27, ENOSPC = 28, EROFS = 30, EACCES = 13, EPERM = 1, ENOTSUP = 95;

    private readonly Storage _inner;
    private readonly FaultOptions _options;
    private readonly bool _isTop;

    // Only for misaligned requests: what they read and write back must not change between.
    private readonly RequestTracker? _ranges;

    /// <summary>Takes over a storage.</summary>
    /// <param name="inner">What fails.</param>
    /// <param name="options">When.</param>
    /// <param name="configurationName">The configuration file, for the name.</param>
    /// <param name="isTop">Over an image: no format says what accesses are for, and what is announced all the same does not count.</param>
    public FaultStorage(Storage inner, FaultOptions options, string? configurationName = null, bool isTop = false)
    {
        _isTop = isTop;
        _inner = inner;
        _options = options;
        _ranges = options.Align > 1 ? new() : null;
        Name = $"{FaultOptions.Driver}:{configurationName}:{inner.Name}";
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <summary>Requests that wait.</summary>
    public Breakpoints Breakpoints { get; } = new();

    /// <inheritdoc/>
    public override long Length => _inner.Length;

    /// <inheritdoc/>
    public override bool IsReadOnly => _inner.IsReadOnly;

    /// <inheritdoc/>
    public override StorageIdentity? Identity => _inner.Identity;

    /// <inheritdoc/>
    public override string? BaseDirectory => _inner.BaseDirectory;

    /// <inheritdoc/>
    public override int RequestAlignment => Math.Max(_options.Align, _inner.RequestAlignment);

    /// <inheritdoc/>
    public override bool HasFixedLength => _inner.HasFixedLength;

    /// <inheritdoc/>
    public override void Announce(StorageEvent purpose)
    {
        if (purpose != StorageEvent.None && !_isTop)
        {
            Happen(purpose);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var start = Sizes.AlignDown(at.Value, _options.Align);
        var end = AlignUp(at.Value + buffer.Length);
        if (start == at.Value && end == at.Value + buffer.Length && buffer.Length <= _options.MaxTransfer)
        {
            await JudgeAsync(FaultTargets.Read, at, buffer.Length, cancellationToken).ConfigureAwait(false);
            return await _inner.ReadAsync(at, buffer, cancellationToken).ConfigureAwait(false);
        }

        using var whole = MemoryPool<byte>.Shared.Rent(checked((int)(end - start)));
        var bytes = whole.Memory[..(int)(end - start)];
        var read = await ReadPiecesAsync(new(start), bytes, cancellationToken).ConfigureAwait(false);
        var mine = (int)Math.Clamp(start + read - at.Value, 0, buffer.Length);
        bytes.Slice((int)(at.Value - start), mine).CopyTo(buffer);
        return mine;
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var start = Sizes.AlignDown(at.Value, _options.Align);
        var end = AlignUp(at.Value + buffer.Length);
        if (_ranges is null)
        {
            await WritePiecesAsync(at, buffer, cancellationToken).ConfigureAwait(false);
            return;
        }

        using (await _ranges.EnterAsync(start, end, exclusive: true, cancellationToken).ConfigureAwait(false))
        {
            if (start == at.Value && end == at.Value + buffer.Length)
            {
                await WritePiecesAsync(at, buffer, cancellationToken).ConfigureAwait(false);
                return;
            }

            var bytes = new byte[end - start];
            if (start < at.Value)
            {
                Happen(StorageEvent.PwritevRmwHead);
                _ = await ReadPiecesAsync(new(start), bytes.AsMemory(0, _options.Align), cancellationToken).ConfigureAwait(false);
                Happen(StorageEvent.PwritevRmwAfterHead);
            }

            if (end > at.Value + buffer.Length && (end - start > _options.Align || start == at.Value))
            {
                Happen(StorageEvent.PwritevRmwTail);
                _ = await ReadPiecesAsync(new(end - _options.Align), bytes.AsMemory(bytes.Length - _options.Align), cancellationToken).ConfigureAwait(false);
                Happen(StorageEvent.PwritevRmwAfterTail);
            }

            buffer.CopyTo(bytes.AsMemory((int)(at.Value - start)));
            await WritePiecesAsync(new(start), bytes, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        var start = Math.Min(AlignUp(at.Value, _options.ZeroAlign), at.Value + length);
        var end = Math.Max(Sizes.AlignDown(at.Value + length, _options.ZeroAlign), start);
        await WriteBytesAsync(at.Value, start - at.Value, cancellationToken).ConfigureAwait(false);
        while (start < end)
        {
            var part = Math.Min(end - start, _options.MaxWriteZero);
            Happen(StorageEvent.PwritevZero);
            await JudgeAsync(FaultTargets.WriteZeroes, new(start), part, cancellationToken).ConfigureAwait(false);
            await _inner.WriteZeroesAsync(new(start), part, mayUnmap, cancellationToken).ConfigureAwait(false);
            Happen(StorageEvent.PwritevDone);
            start += part;
        }

        await WriteBytesAsync(end, at.Value + length - end, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    /// <remarks>Whole units of <see cref="FaultOptions.ZeroAlign"/> only: edges would be bytes.</remarks>
    public override async ValueTask<bool> TryZeroFastAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        if (Sizes.AlignDown(at.Value, _options.ZeroAlign) != at.Value || Sizes.AlignDown(length, _options.ZeroAlign) != length)
        {
            return false;
        }

        for (long done = 0; done < length;)
        {
            var part = Math.Min(length - done, _options.MaxWriteZero);
            Happen(StorageEvent.PwritevZero);
            await JudgeAsync(FaultTargets.WriteZeroes, at + done, part, cancellationToken).ConfigureAwait(false);
            if (!await _inner.TryZeroFastAsync(at + done, part, mayUnmap, cancellationToken).ConfigureAwait(false))
            {
                return false;
            }

            Happen(StorageEvent.PwritevDone);
            done += part;
        }

        return true;
    }

    /// <inheritdoc/>
    public override bool PassesDiscards => true;

    /// <inheritdoc/>
    public override async ValueTask DiscardAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
    {
        var start = Math.Min(AlignUp(at.Value), at.Value + length);
        var end = Math.Max(Sizes.AlignDown(at.Value + length, _options.Align), start);
        if (start < end)
        {
            await JudgeAsync(FaultTargets.Discard, new(start), end - start, cancellationToken).ConfigureAwait(false);
            await _inner.DiscardAsync(new(start), end - start, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken = default)
    {
        await JudgeAsync(FaultTargets.Flush, default, 0, cancellationToken).ConfigureAwait(false);
        await _inner.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) => _inner.SetLengthAsync(length, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<StorageExtent> MapAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
    {
        await JudgeAsync(FaultTargets.Map, at, length, cancellationToken).ConfigureAwait(false);
        return await _inner.MapAsync(at, length, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override void LockForReading(bool allowWriters) => _inner.LockForReading(allowWriters);

    /// <inheritdoc/>
    public override void LockForWriting() => _inner.LockForWriting();

    /// <inheritdoc/>
    public override ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return _inner.DisposeAsync();
    }

    private async ValueTask<int> ReadPiecesAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var done = 0;
        while (done < buffer.Length)
        {
            var piece = buffer.Slice(done, (int)Math.Min(buffer.Length - done, _options.MaxTransfer));
            await JudgeAsync(FaultTargets.Read, at + done, piece.Length, cancellationToken).ConfigureAwait(false);
            var read = await _inner.ReadAsync(at + done, piece, cancellationToken).ConfigureAwait(false);
            done += read;
            if (read < piece.Length)
            {
                break;
            }
        }

        buffer.Span[done..].Clear();
        return done;
    }

    private async ValueTask WritePiecesAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken)
    {
        Happen(StorageEvent.Pwritev);
        do
        {
            var piece = buffer[..(int)Math.Min(buffer.Length, _options.MaxTransfer)];
            await JudgeAsync(FaultTargets.Write, at, piece.Length, cancellationToken).ConfigureAwait(false);
            await _inner.WriteAsync(at, piece, cancellationToken).ConfigureAwait(false);
            at += piece.Length;
            buffer = buffer[piece.Length..];
        }
        while (!buffer.IsEmpty);
        Happen(StorageEvent.PwritevDone);
    }

    private async ValueTask WriteBytesAsync(long at, long length, CancellationToken cancellationToken)
    {
        for (var zeros = new byte[Math.Min(length, 1 << 20)]; length > 0;)
        {
            var part = (int)Math.Min(length, zeros.Length);
            await WriteAsync(new(at), zeros.AsMemory(0, part), cancellationToken).ConfigureAwait(false);
            at += part;
            length -= part;
        }
    }

    private void Happen(StorageEvent what)
    {
        _options.Rules.Happen(what);
        Breakpoints.Happen(what);
    }

    private async ValueTask JudgeAsync(FaultTargets kind, HostOffset at, long length, CancellationToken cancellationToken)
    {
        await Breakpoints.PassAsync(cancellationToken).ConfigureAwait(false);
        if (_options.Rules.Judge(kind, at, length) is not { } rule)
        {
            return;
        }

        if (!rule.Immediately)
        {
            await Task.Yield();
        }

        throw new BlockException(KindOf(rule.ErrorNumber), $"{Name}: injected error {rule.ErrorNumber} at {at} ({kind}, {length} bytes)") { HostErrorNumber = rule.ErrorNumber };
    }

    private static BlockErrorKind KindOf(int number) => number switch
    {
        ENOSPC or EDQUOT or EFBIG => BlockErrorKind.NoSpace,
        EROFS => BlockErrorKind.ReadOnly,
        EACCES or EPERM => BlockErrorKind.AccessDenied,
        ENOTSUP => BlockErrorKind.Unsupported,
        _ => BlockErrorKind.Io,
    };

    private long AlignUp(long value) => AlignUp(value, _options.Align);

    private static long AlignUp(long value, long unit) => Sizes.TryAlignUp(value, unit, out var aligned) ? aligned : long.MaxValue;
}
