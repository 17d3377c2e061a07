using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Operations.Copy;

/// <summary>Copies what comes out of a stream, whose end nobody knows, from the start of a target on.</summary>
public static class StreamCopy
{
    private const int SegmentBytes = 256 * 1024;
    private const int DefaultWrites = 8;

    /// <summary>Copies everything up to the stream's end, and flushes the target.</summary>
    /// <param name="from">Read by this alone, one read at a time. A read that nothing arrives for is left behind when the copy is cancelled.</param>
    /// <param name="target">Where to.</param>
    /// <param name="name">What messages call the target.</param>
    /// <param name="room">What the target has room for, in bytes.</param>
    /// <param name="options">Workers (writes under way), sparse size and whether the target is zero count.</param>
    /// <param name="progress">Told after each piece; the total is what is known to have come.</param>
    /// <param name="cancellationToken">Stops between pieces.</param>
    /// <returns>Bytes that came.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NoSpace"/>: more came than there is room for; others as met.</exception>
    public static async Task<long> CopyAsync(
        Stream from, CopyTarget target, string name, long room, CopyOptions options, IProgress<CopyProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        var writes = new (Task Task, byte[] Buffer)[options.Workers > 0 ? options.Workers : DefaultWrites];
        long at = 0;
        try
        {
            for (var i = 0; true; i = (i + 1) % writes.Length)
            {
                if (writes[i].Task is { } earlier)
                {
                    await earlier.ConfigureAwait(false);
                }

                var buffer = writes[i].Buffer ??= new byte[SegmentBytes];
                var count = await FillAsync(from, buffer, cancellationToken).ConfigureAwait(false);
                if (count > room - at)
                {
                    throw new BlockException(BlockErrorKind.NoSpace, $"{SafeText.Clean(name)}: has {room} bytes, and more came for it");
                }

                writes[i].Task = WriteAsync(target, new(at), buffer.AsMemory(0, count), options, cancellationToken);
                at += count;
                progress?.Report(new CopyProgress(at, Math.Max(at, room == long.MaxValue ? 0 : room), at));
                if (count < buffer.Length)
                {
                    break;
                }
            }
        }
        finally
        {
            // They own their buffers. The first error counts.
            foreach (var (task, _) in writes)
            {
                await (task ?? Task.CompletedTask).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }

        await Task.WhenAll(writes.Select(write => write.Task ?? Task.CompletedTask)).ConfigureAwait(false);
        await target.FlushAsync(cancellationToken).ConfigureAwait(false);
        return at;
    }

    private static async ValueTask<int> FillAsync(Stream from, byte[] buffer, CancellationToken cancellationToken)
    {
        var count = 0;
        while (count < buffer.Length)
        {
            // A pipe is read blocking, wherever that happens.
            var read = await Task.Run(() => from.Read(buffer, count, buffer.Length - count), cancellationToken).WaitAsync(cancellationToken).ConfigureAwait(false);
            if (read == 0)
            {
                break;
            }

            count += read;
        }

        return count;
    }

    private static async Task WriteAsync(CopyTarget target, GuestOffset at, ReadOnlyMemory<byte> bytes, CopyOptions options, CancellationToken cancellationToken)
    {
        if (options.SparseBytes == 0)
        {
            await target.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
            return;
        }

        for (var done = 0; done < bytes.Length;)
        {
            var (length, isZero) = ZeroRuns.Next(bytes.Span[done..], at.Value + done, options.SparseBytes);
            if (!isZero)
            {
                await target.WriteAsync(at + done, bytes.Slice(done, length), cancellationToken).ConfigureAwait(false);
            }
            else if (!options.TargetIsZero)
            {
                await target.WriteZeroesAsync(at + done, length, cancellationToken).ConfigureAwait(false);
            }

            done += length;
        }
    }
}
