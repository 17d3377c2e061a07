using System.Buffers;
using Platter.Core.Graph;
using Platter.Core.Units;

namespace Platter.Operations.Digest;

/// <summary>Computes the digest of a disk's content: the same for every format that holds the same bytes.</summary>
public static class DigestOperation
{
    private const int SegmentBytes = 256 * 1024;
    private const long ChunkBytes = 2 * 1024 * 1024;

    /// <summary>Reads the whole disk, what is known to be zero left out, on all cores.</summary>
    /// <param name="disk">The disk.</param>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <returns>64 hexadecimal digits.</returns>
    /// <exception cref="Core.Errors.BlockException">The disk could not be read.</exception>
    public static async Task<string> ComputeAsync(BlockNode disk, IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        var run = new Run(disk, progress);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var workers = new Task[Math.Clamp(Environment.ProcessorCount, 2, 16)];
        for (var i = 0; i < workers.Length; i++)
        {
            workers[i] = Task.Run(
                async () =>
                {
                    try
                    {
                        await run.WorkAsync(stop.Token).ConfigureAwait(false);
                    }
                    catch
                    {
                        await stop.CancelAsync().ConfigureAwait(false);
                        throw;
                    }
                },
                CancellationToken.None);
        }

        await Workers.WhenAllFirstErrorAsync(workers, cancellationToken).ConfigureAwait(false);
        return run.Tree.Finish();
    }

    private sealed class Run(BlockNode disk, IProgress<double>? progress)
    {
        private readonly SemaphoreSlim _gate = new(1, 1);
        private long _cursor;

        public DigestTree Tree { get; } = new(disk.VirtualSize);

        public async Task WorkAsync(CancellationToken cancellationToken)
        {
            var buffer = ArrayPool<byte>.Shared.Rent(SegmentBytes);
            try
            {
                while (await ClaimAsync(cancellationToken).ConfigureAwait(false) is { } chunk)
                {
                    await DigestAsync(chunk.Start, chunk.End, buffer, cancellationToken).ConfigureAwait(false);
                }
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }

        private async ValueTask<(long Start, long End)?> ClaimAsync(CancellationToken cancellationToken)
        {
            await _gate.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                while (_cursor < disk.VirtualSize)
                {
                    var start = _cursor;
                    var extent = await disk.MapAsync(new(start), disk.VirtualSize - start, MapDetail.StorageHoles, cancellationToken).ConfigureAwait(false);
                    var zeros = extent.ReadsZero ? WholeBlocks(start, extent.Length) : 0;
                    if (zeros > 0)
                    {
                        Tree.AddZeros(start, zeros);
                        _cursor += zeros;
                        continue;
                    }

                    _cursor = Math.Min(Sizes.AlignDown(start, ChunkBytes) + ChunkBytes, disk.VirtualSize);
                    progress?.Report((double)start / disk.VirtualSize);
                    return (start, _cursor);
                }

                return null;
            }
            finally
            {
                _gate.Release();
            }
        }

        private async Task DigestAsync(long at, long end, byte[] buffer, CancellationToken cancellationToken)
        {
            while (at < end)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var extent = await disk.MapAsync(new(at), end - at, MapDetail.StorageHoles, cancellationToken).ConfigureAwait(false);
                var whole = WholeBlocks(at, extent.Length);
                if (whole > 0 && extent.ReadsZero)
                {
                    Tree.AddZeros(at, whole);
                    at += whole;
                    continue;
                }

                // A block of several extents is read as one piece.
                var bytes = buffer.AsMemory(0, (int)Math.Min(whole > 0 ? Math.Min(whole, SegmentBytes) : DigestTree.BlockBytes, end - at));
                if (whole > 0)
                {
                    await BlockNode.ReadExtentAsync(extent, new(at), bytes, cancellationToken).ConfigureAwait(false);
                }
                else
                {
                    await disk.ReadAsync(new(at), bytes, cancellationToken).ConfigureAwait(false);
                }

                Tree.Add(at, bytes.Span);
                at += bytes.Length;
            }
        }

        private long WholeBlocks(long at, long length) => at + length == disk.VirtualSize ? length : Sizes.AlignDown(length, DigestTree.BlockBytes);
    }
}
