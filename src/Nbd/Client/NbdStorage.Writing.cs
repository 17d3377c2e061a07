using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Units;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

// Everything that changes the export. A write that does not cover whole blocks of the server's reads them, changes them and writes them back; meanwhile nobody
// else writes to these blocks, or the bytes around would go back to what they were.
public sealed partial class NbdStorage
{
    // Zeros where the server has no WRITE_ZEROES.
    private const int ZeroPieceBytes = 4 << 20;

    // Null when every byte is a block.
    private readonly RequestTracker? _blocks;

    /// <inheritdoc/>
    public override bool HasFixedLength => true;

    /// <inheritdoc/>
    /// <exception cref="BlockException">As promised, and <see cref="BlockErrorKind.NoSpace"/>: behind the end of the export, which cannot grow.</exception>
    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        WriteAsync(at, buffer, durable: false, cancellationToken);

    /// <summary>Writes, perhaps so that it is durable when this ends.</summary>
    /// <param name="at">Where.</param>
    /// <param name="buffer">What.</param>
    /// <param name="durable">With FUA, or a flush where the server has only that.</param>
    /// <param name="cancellationToken">Gives up; what was written then is unknown.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NoSpace"/>, <see cref="BlockErrorKind.Io"/>, <see cref="BlockErrorKind.ReadOnly"/> and others, as the
    /// server says.</exception>
    public async ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, bool durable, CancellationToken cancellationToken)
    {
        CheckWrite(at, buffer.Length);
        if (buffer.Length == 0)
        {
            return;
        }

        var flags = durable && Export.Can(NbdTransmissionFlags.SendFua) ? NbdCommandFlags.Fua : NbdCommandFlags.None;
        var part = PartLength(at.Value, buffer.Length);
        if (part == buffer.Length)
        {
            await WritePartAsync(at.Value, buffer, flags, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            var parts = new List<Task>();
            for (var done = 0; done < buffer.Length; done += part)
            {
                part = PartLength(at.Value + done, buffer.Length - done);
                parts.Add(WritePartAsync(at.Value + done, buffer.Slice(done, part), flags, cancellationToken).AsTask());
            }

            // Waits for all of them even if one fails: until then they own the buffer.
            await Task.WhenAll(parts).ConfigureAwait(false);
        }

        if (durable && flags == NbdCommandFlags.None)
        {
            await FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        CheckWrite(at, length);
        if (length == 0)
        {
            return;
        }

        if (!Export.Can(NbdTransmissionFlags.SendWriteZeroes))
        {
            var zeros = new byte[(int)Math.Min(length, ZeroPieceBytes)];
            for (long done = 0; done < length; done += zeros.Length)
            {
                await WriteAsync(at + done, zeros.AsMemory(0, (int)Math.Min(zeros.Length, length - done)), cancellationToken).ConfigureAwait(false);
            }

            return;
        }

        // Parts of blocks at both ends are written; the blocks between are the server's business.
        var (start, end) = WholeBlocks(at.Value, length);
        if (start >= end)
        {
            await WriteAsync(at, new byte[(int)length], cancellationToken).ConfigureAwait(false);
            return;
        }

        var head = (int)(start - at.Value);
        var tail = (int)(at.Value + length - end);
        var edge = new byte[Math.Max(head, tail)];
        if (head > 0)
        {
            await WriteAsync(at, edge.AsMemory(0, head), cancellationToken).ConfigureAwait(false);
        }

        if (tail > 0)
        {
            await WriteAsync(new(end), edge.AsMemory(0, tail), cancellationToken).ConfigureAwait(false);
        }

        await ChangeAsync(NbdCommand.WriteZeroes, mayUnmap ? NbdCommandFlags.None : NbdCommandFlags.NoHole, start, end - start, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Makes whole blocks read as zeros if the server can do that faster than by writing them (FAST_ZERO).</summary>
    /// <param name="at">Where; a multiple of the <see cref="RequestAlignment"/>.</param>
    /// <param name="length">How much, in bytes; likewise, or to the end of the export.</param>
    /// <param name="mayUnmap">Whether it may become a hole.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>False when it cannot, or cannot say, or the range is not aligned: part of the range may have become zeros.</returns>
    /// <exception cref="BlockException">As with <see cref="WriteZeroesAsync"/>.</exception>
    public override async ValueTask<bool> TryZeroFastAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        CheckWrite(at, length);
        if (!Export.Can(NbdTransmissionFlags.SendFastZero) || !Export.Can(NbdTransmissionFlags.SendWriteZeroes) || length == 0 || !IsWholeBlocks(at.Value, length))
        {
            return length == 0;
        }

        try
        {
            var flags = NbdCommandFlags.FastZero | (mayUnmap ? NbdCommandFlags.None : NbdCommandFlags.NoHole);
            await ChangeAsync(NbdCommand.WriteZeroes, flags, at.Value, length, cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.Unsupported)
        {
            return false;
        }
    }

    /// <inheritdoc/>
    /// <remarks>What the range reads as afterwards is for the server to decide: the protocol promises nothing.</remarks>
    public override async ValueTask DiscardAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
    {
        if (IsReadOnly || !Export.Can(NbdTransmissionFlags.SendTrim) || at.Value >= Length)
        {
            return;
        }

        var (start, end) = WholeBlocks(at.Value, Math.Min(length, Length - at.Value));
        if (start >= end)
        {
            return;
        }

        try
        {
            await ChangeAsync(NbdCommand.Trim, NbdCommandFlags.None, start, end - start, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind != BlockErrorKind.Protocol)
        {
            // A hint; but a connection that is gone is said at once.
        }
    }

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken = default)
    {
        // A server without FLUSH has promised nothing and cannot be asked to.
        if (!IsReadOnly && Export.Can(NbdTransmissionFlags.SendFlush))
        {
            await _connections.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: to another length than it has.</exception>
    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) =>
        length == Length ? ValueTask.CompletedTask
        : throw new BlockException(BlockErrorKind.Unsupported, $"{Name}: the size of an NBD export cannot be changed from {Length} to {length} bytes");

    /// <inheritdoc/>
    public override bool Prefetch(HostOffset at, long length)
    {
        if (Export.Can(NbdTransmissionFlags.SendCache) && at.Value < Length && length > 0)
        {
            var start = Sizes.AlignDown(at.Value, _minimum);
            var end = Math.Min(AlignUp(at.Value + Math.Min(length, Length - at.Value)), Length);
            _ = PrefetchAsync(start, Math.Min(end - start, _maximum));
            return true;
        }

        return false;
    }

    private async Task PrefetchAsync(long start, long length)
    {
        try
        {
            await RequestAsync(new(NbdCommand.Cache, start, length), CancellationToken.None).ConfigureAwait(false);
        }
        catch (BlockException)
        {
            // A hint. If the connection is gone, the next request says so.
        }
    }

    private async ValueTask WritePartAsync(long at, ReadOnlyMemory<byte> bytes, NbdCommandFlags flags, CancellationToken cancellationToken)
    {
        var whole = IsWholeBlocks(at, bytes.Length);
        using var hold = await EnterAsync(at, bytes.Length, exclusive: !whole, cancellationToken).ConfigureAwait(false);
        try
        {
            if (whole)
            {
                await RequestAsync(NbdOperation.Write(at, bytes, flags), cancellationToken).ConfigureAwait(false);
                return;
            }

            var (start, block) = await ReadBlockAsync(at, cancellationToken).ConfigureAwait(false);
            bytes.CopyTo(block.AsMemory((int)(at - start)));
            await RequestAsync(NbdOperation.Write(start, block, flags), cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _extents.Forget();
        }
    }

    // Whole blocks, without data.
    private async ValueTask ChangeAsync(NbdCommand command, NbdCommandFlags flags, long at, long length, CancellationToken cancellationToken)
    {
        using var hold = await EnterAsync(at, length, exclusive: false, cancellationToken).ConfigureAwait(false);
        try
        {
            for (long piece; length > 0; at += piece, length -= piece)
            {
                piece = Math.Min(length, Volatile.Read(ref _maxEffect));
                try
                {
                    await RequestAsync(new(command, at, piece) { Flags = flags }, cancellationToken).ConfigureAwait(false);
                }
                catch (BlockException e) when (e.Kind == BlockErrorKind.InvalidRequest && piece > _maximum)
                {
                    // A server may find this too long though it takes no payload; so much it must take.
                    Volatile.Write(ref _maxEffect, _maximum);
                    piece = 0;
                }
            }
        }
        finally
        {
            _extents.Forget();
        }
    }

    private ValueTask<RequestTracker.Hold> EnterAsync(long at, long length, bool exclusive, CancellationToken cancellationToken) => _blocks is null
        ? default
        : _blocks.EnterAsync(Sizes.AlignDown(at, _minimum), AlignUp(at + length), exclusive, cancellationToken);

    private (long Start, long End) WholeBlocks(long at, long length)
    {
        var end = at + length;
        return (AlignUp(at), end == Length ? end : Sizes.AlignDown(end, _minimum));
    }

    // An export may end just below 2^63, inside its last block.
    private long AlignUp(long at) => Sizes.TryAlignUp(at, _minimum, out var up) ? up : long.MaxValue;

    private void CheckWrite(HostOffset at, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(at.Value, nameof(at));
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        if (IsReadOnly)
        {
            throw new BlockException(BlockErrorKind.ReadOnly, $"{Name}: is open for reading only");
        }

        if (at.Value > Length || length > Length - at.Value)
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"{Name}: {length} bytes at {at.Value} lie behind the end of the export, which has {Length} bytes");
        }
    }
}
