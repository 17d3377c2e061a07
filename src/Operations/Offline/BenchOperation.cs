using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Operations.Offline;

/// <summary>Sends a stream of equal requests to a disk, as fast as they are answered.</summary>
public static class BenchOperation
{
    /// <summary>Sends them all.</summary>
    /// <remarks>Request k starts at offset + k · step; one that would start behind the end starts again from the beginning, by what it is too far.</remarks>
    /// <exception cref="BlockException">The first request that failed: one that reaches beyond the end fails.</exception>
    public static async Task RunAsync(BlockNode node, BenchOptions options, CancellationToken cancellationToken = default)
    {
        var batch = options is { FlushInterval: > 0, DrainsBeforeFlush: true } ? options.FlushInterval : options.Count;
        for (var first = 0; first < options.Count; first += batch)
        {
            var count = Math.Min(batch, options.Count - first);
            await SendAsync(node, options, first, count, cancellationToken).ConfigureAwait(false);
            if (options is { FlushInterval: > 0, DrainsBeforeFlush: true } && count == options.FlushInterval)
            {
                await node.FlushAsync(cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private static async Task SendAsync(BlockNode node, BenchOptions options, int first, int count, CancellationToken cancellationToken)
    {
        var next = first - 1;
        var (failed, done) = (0, 0);
        async Task WorkAsync()
        {
            InlineCompletions.Allow();
            byte[]? buffer = null;
            for (int i; Volatile.Read(ref failed) == 0 && (i = Interlocked.Increment(ref next)) < first + count;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (buffer is null)
                {
                    // Over a local file requests are answered at once, and few workers get any.
                    buffer = new byte[options.RequestBytes];
                    Array.Fill(buffer, options.Pattern);
                }

                try
                {
                    var at = OffsetOf(node, options, i);
                    if (options.Writes)
                    {
                        await node.WriteAsync(at, buffer, WriteFlags.None, cancellationToken).ConfigureAwait(false);
                    }
                    else
                    {
                        await node.ReadAsync(at, buffer, cancellationToken).ConfigureAwait(false);
                    }

                    if (options is { FlushInterval: > 0, DrainsBeforeFlush: false } && Interlocked.Increment(ref done) % options.FlushInterval == 0)
                    {
                        await node.FlushAsync(cancellationToken).ConfigureAwait(false);
                    }
                }
                catch
                {
                    Volatile.Write(ref failed, 1);
                    throw;
                }
            }
        }

        if (options.Depth == 1)
        {
            await WorkAsync().ConfigureAwait(false);

            // Whoever waits for the end has promised nothing.
            await Task.Yield();
            return;
        }

        var workers = new Task[Math.Min(options.Depth, count)];
        for (var i = 0; i < workers.Length; i++)
        {
            workers[i] = Task.Run(WorkAsync, cancellationToken);
        }

        await Task.WhenAll(workers).ConfigureAwait(false);
        await Task.Yield();
    }

    private static GuestOffset OffsetOf(BlockNode node, BenchOptions options, int index)
    {
        var offset = options.Offset + ((long)index * options.StepBytes);
        return new(index == 0 || offset < node.VirtualSize || node.VirtualSize == 0 ? offset : offset % node.VirtualSize);
    }
}
