using System.Buffers;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Operations.Copy;

namespace Platter.Operations.Offline;

/// <summary>How two disks differ.</summary>
public enum CompareOutcome
{
    /// <summary>They read the same (and, in strict mode, are of one size with the same allocation).</summary>
    Identical,

    /// <summary>Some bytes differ.</summary>
    ContentMismatch,

    /// <summary>Strict mode: one has bytes allocated where the other has none.</summary>
    AllocationMismatch,

    /// <summary>Strict mode: the sizes differ.</summary>
    SizeMismatch,
}

/// <summary>The outcome of a comparison.</summary>
/// <param name="Outcome">What was found first, from the start of the disks.</param>
/// <param name="At">The first sector that differs.</param>
/// <param name="SizesDiffer">One disk is longer (its tail is compared with zeros).</param>
public sealed record CompareResult(CompareOutcome Outcome, GuestOffset At, bool SizesDiffer);

/// <summary>Compares two disks byte by byte, skipping what both know to be zero.</summary>
public static class CompareOperation
{
    private const int ChunkBytes = 256 * 1024;

    /// <summary>Compares; several chunks at once, the answer is that of the first difference.</summary>
    /// <param name="first">A disk.</param>
    /// <param name="second">Another disk.</param>
    /// <param name="strict">Sizes and allocation must agree too.</param>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <exception cref="MappingFailedException">A disk could not tell what a range is.</exception>
    /// <exception cref="BlockException">A disk could not be read.</exception>
    public static async Task<CompareResult> CompareAsync(
        BlockNode first, BlockNode second, bool strict, IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        var sizesDiffer = first.VirtualSize != second.VirtualSize;
        if (strict && sizesDiffer)
        {
            return new(CompareOutcome.SizeMismatch, new(Math.Min(first.VirtualSize, second.VirtualSize)), true);
        }

        var run = new Run(first, second, strict, progress);
        var workers = new Task[Math.Clamp(Environment.ProcessorCount, 2, 16)];
        for (var i = 0; i < workers.Length; i++)
        {
            workers[i] = Task.Run(() => run.WorkAsync(cancellationToken), cancellationToken);
        }

        await Task.WhenAll(workers).ConfigureAwait(false);
        return new(run.Outcome, new(run.Outcome == CompareOutcome.Identical ? 0 : run.MismatchAt), sizesDiffer);
    }

    private sealed class Run(BlockNode first, BlockNode second, bool strict, IProgress<double>? progress)
    {
        private readonly SemaphoreSlim _gate = new(1, 1);
        private readonly Lock _resultGate = new();
        private readonly long _size = Math.Max(first.VirtualSize, second.VirtualSize);
        private GuestOffset _cursor;
        private long _mismatchAt = long.MaxValue;

        public CompareOutcome Outcome { get; private set; }

        public long MismatchAt => Interlocked.Read(ref _mismatchAt);

        public async Task WorkAsync(CancellationToken cancellationToken)
        {
            var left = ArrayPool<byte>.Shared.Rent(ChunkBytes);
            var right = ArrayPool<byte>.Shared.Rent(ChunkBytes);
            try
            {
                while (await ClaimAsync(cancellationToken).ConfigureAwait(false) is { } chunk)
                {
                    await CompareChunkAsync(chunk.First, left, cancellationToken, chunk.Second, right).ConfigureAwait(false);
                }
            }
            catch
            {
                Found(-1, CompareOutcome.Identical);
                throw;
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(left);
                ArrayPool<byte>.Shared.Return(right);
            }
        }

        private async ValueTask<(Extent First, Extent Second)?> ClaimAsync(CancellationToken cancellationToken)
        {
            await _gate.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                while (_cursor.Value < _size && _cursor.Value < MismatchAt)
                {
                    var at = _cursor;
                    var one = await MapAsync(first, at, _size - at.Value, cancellationToken).ConfigureAwait(false);
                    var other = await MapAsync(second, at, one.Length, cancellationToken).ConfigureAwait(false);
                    one = one.Take(other.Length);
                    if (strict && StatusOf(one) != StatusOf(other))
                    {
                        Found(at.Value, CompareOutcome.AllocationMismatch);
                        return null;
                    }

                    var bothZero = one.ReadsZero && other.ReadsZero;
                    var length = bothZero ? one.Length : Math.Min(one.Length, ChunkBytes);
                    _cursor = at + length;
                    progress?.Report((double)_cursor.Value / _size);
                    if (!bothZero)
                    {
                        return (one.Take(length), other.Take(length));
                    }
                }

                return null;
            }
            finally
            {
                _gate.Release();
            }
        }

        private async ValueTask CompareChunkAsync(
            Extent one, Memory<byte> left, CancellationToken cancellationToken, Extent other, Memory<byte> right)
        {
            var length = (int)one.Length;
            left = left[..length];
            right = right[..length];
            await BlockNode.ReadExtentAsync(one, one.Offset, left, cancellationToken).ConfigureAwait(false);
            await BlockNode.ReadExtentAsync(other, other.Offset, right, cancellationToken).ConfigureAwait(false);
            var same = left.Span.CommonPrefixLength(right.Span);
            if (same < length)
            {
                Found(one.Offset.Value + (same / Sizes.SectorBytes * Sizes.SectorBytes), CompareOutcome.ContentMismatch);
            }
        }

        private static async ValueTask<Extent> MapAsync(BlockNode node, GuestOffset at, long length, CancellationToken cancellationToken)
        {
            if (at.Value >= node.VirtualSize)
            {
                return new Extent { Offset = at, Length = length, Kind = ExtentKind.Unallocated };
            }

            try
            {
                return await node.MapAsync(at, length, MapDetail.StorageHoles, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                throw new MappingFailedException(e);
            }
        }

        // What strict mode compares, as the peer does: what map says but for lengths, depths and places.
        private static (bool Present, bool Data, bool Zero, bool HasPlace) StatusOf(in Extent extent) => (
            extent.Kind != ExtentKind.Unallocated, extent.Kind is ExtentKind.Data or ExtentKind.Encoded, extent.ReadsZero,
            extent.Storage is not null && extent.Kind != ExtentKind.Encoded);

        private void Found(long at, CompareOutcome outcome)
        {
            lock (_resultGate)
            {
                if (at < _mismatchAt)
                {
                    _mismatchAt = at;
                    Outcome = outcome;
                }
            }
        }
    }
}
