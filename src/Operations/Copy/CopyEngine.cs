using System.Buffers;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Operations.Digest;

namespace Platter.Operations.Copy;

/// <summary>The one way bytes get from a disk into a storage or another disk.</summary>
/// <remarks>
/// Workers take turns at a cursor that skips what the target has already (zeros) and claims the next chunk with data; each then maps, reads
/// and writes its chunk alone. Chunks start and end at multiples of their size, so a cluster is decoded and allocated once. The order of writes is free:
/// nothing points to the bytes of a raw target, and a disk orders its own. The target is flushed at the end; until then an interrupted copy is not a copy.
/// </remarks>
public sealed class CopyEngine
{
    // Segments that fit the L2 cache cost less than large ones (design.md, section 2); a chunk is what one worker claims.
    private const int SegmentBytes = 256 * 1024;
    private const long ChunkBytes = 2 * 1024 * 1024;

    // Smaller zeros inside what is allocated at once are not worth a request of their own.
    private const int MaxZeroGranularity = 64 * 1024;
    private const long HostCopyBytes = 16 * 1024 * 1024;

    private readonly BlockNode _source;
    private readonly CopyTarget _target;
    private readonly long _unit;
    private readonly int _granularity;
    private readonly CopyOptions _options;
    private readonly IProgress<CopyProgress>? _progress;
    private readonly SemaphoreSlim _cursorGate = new(1, 1);
    private readonly Lock _reportGate = new();
    private readonly RateLimiter? _limiter;

    // Whether a worker only moves bytes, so that it may do so on the thread that received them.
    private readonly bool _isLight;
    private GuestOffset _cursor;
    private long _done;
    private long _written;
    private long _flushed;

    private CopyEngine(BlockNode source, CopyTarget target, CopyOptions options, IProgress<CopyProgress>? progress)
    {
        _source = source;
        _target = target;
        _unit = options.Digest is null ? target.Unit : Math.Max(target.Unit, DigestTree.BlockBytes);
        _granularity = (int)Math.Max(options.SparseBytes, Math.Min(target.Unit, MaxZeroGranularity));
        _options = options;
        _progress = progress;
        _isLight = options.Digest is null && target is { WritesWholeUnits: false };
        _limiter = options.BytesPerSecond > 0 ? new RateLimiter(options.BytesPerSecond) : null;
    }

    /// <summary>Copies the whole disk and flushes the target.</summary>
    /// <param name="source">The disk.</param>
    /// <param name="target">Where to.</param>
    /// <param name="options">How.</param>
    /// <param name="progress">Told often, from any worker, one call at a time; must not wait for a disk (<see cref="InlineCompletions"/>).</param>
    /// <param name="cancellationToken">Stops between segments.</param>
    /// <returns>Bytes that went into the target.</returns>
    /// <exception cref="BlockException">The first error of any worker; the others are stopped.</exception>
    public static async Task<long> CopyAsync(
        BlockNode source, CopyTarget target, CopyOptions options, IProgress<CopyProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        var engine = new CopyEngine(source, target, options, progress);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var workers = new Task[options.Workers > 0 ? Math.Min(options.Workers, 64) : DefaultWorkers(source)];
        for (var i = 0; i < workers.Length; i++)
        {
            workers[i] = Task.Run(
                async () =>
                {
                    try
                    {
                        await engine.WorkAsync(stop.Token).ConfigureAwait(false);
                    }
                    catch
                    {
                        await stop.CancelAsync().ConfigureAwait(false);
                        throw;
                    }
                    finally
                    {
                        // Whoever waits for the copy has promised nothing.
                        await Task.Yield();
                    }
                },
                CancellationToken.None);
        }

        await Workers.WhenAllFirstErrorAsync(workers, cancellationToken).ConfigureAwait(false);
        await target.FlushAsync(cancellationToken).ConfigureAwait(false);
        return engine._written;
    }

    // A file completes on the calling thread, so more workers than cores only add switching; a remote source wants requests in flight.
    private static int DefaultWorkers(BlockNode source) =>
        source.Storages.All(storage => storage.BaseDirectory is not null) ? Math.Clamp(Environment.ProcessorCount, 2, 16) : 16;

    private async Task WorkAsync(CancellationToken cancellationToken)
    {
        if (_isLight)
        {
            InlineCompletions.Allow();
        }

        using var segment = new Segment();
        while (await ClaimAsync(cancellationToken).ConfigureAwait(false) is { } chunk)
        {
            for (var at = chunk.Start; at.Value < chunk.End;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var extent = await MapAsync(at, chunk.End - at.Value, cancellationToken).ConfigureAwait(false);
                var whole = extent.End.Value == chunk.End ? extent.Length : WholeUnits(extent);
                if (whole == 0)
                {
                    at = await CopyMixedUnitAsync(at, chunk.End, segment, cancellationToken).ConfigureAwait(false);
                    continue;
                }

                // What ends inside a unit of the target goes up to there, and then the unit as a whole.
                extent = extent.Take(whole);
                await CopyExtentAsync(extent, segment, cancellationToken).ConfigureAwait(false);
                at = extent.End;
            }

            await FlushIfDueAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    // By one worker, while the others go on.
    private async ValueTask FlushIfDueAsync(CancellationToken cancellationToken)
    {
        var (flushed, written) = (Interlocked.Read(ref _flushed), Interlocked.Read(ref _written));
        if (_options.FlushEveryBytes > 0 && written - flushed >= _options.FlushEveryBytes && Interlocked.CompareExchange(ref _flushed, written, flushed) == flushed)
        {
            await _target.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Moves the cursor past zeros and takes the next chunk, or returns null at the end.</summary>
    private async ValueTask<(GuestOffset Start, long End)?> ClaimAsync(CancellationToken cancellationToken)
    {
        await _cursorGate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            while (_cursor.Value < _source.VirtualSize)
            {
                var start = _cursor;
                var extent = await MapAsync(start, _source.VirtualSize - start.Value, cancellationToken).ConfigureAwait(false);
                var leftOut = IsLeftOut(extent) && (_options.Digest is null || extent.ReadsZero) ? WholeUnits(extent) : 0;
                if (leftOut > 0)
                {
                    _cursor = start + leftOut;
                    _options.Digest?.AddZeros(start.Value, leftOut);
                    Advance(leftOut, 0);
                    continue;
                }

                var size = _options.HostCopy && extent.Kind == ExtentKind.Data && extent.Length >= HostCopyBytes ? HostCopyBytes : ChunkBytes;
                var end = Math.Min(Sizes.AlignDown(start.Value, size) + size, _source.VirtualSize);
                if (extent.ReadsZero && _options.SparseBytes > 0)
                {
                    // One request can zero any range; only data is worth cutting up.
                    end = Math.Max(end, start.Value + WholeUnits(extent));
                }

                _cursor = new GuestOffset(end);
                return (start, end);
            }

            return null;
        }
        finally
        {
            _cursorGate.Release();
        }
    }

    private async ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        try
        {
            return await _source.MapAsync(at, length, MapDetail.StorageHoles, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (_options.Salvage)
        {
            // A broken table entry: nothing is known about the smallest piece a format maps; go on behind it.
            var lost = Math.Min(length, Sizes.SectorBytes);
            ReportSalvaged(at, lost, e);
            return new Extent { Offset = at, Length = lost, Kind = ExtentKind.Zero };
        }
    }

    // Pieces begin at multiples of the unit.
    private long WholeUnits(in Extent extent) =>
        extent.End.Value == _source.VirtualSize ? extent.Length : Sizes.AlignDown(extent.Length, _unit);

    // Nothing has to be written for it: the target reads the same already.
    private bool IsLeftOut(in Extent extent) =>
        (_options.SharedDepth > 0 && extent.Depth >= _options.SharedDepth) || (extent.ReadsZero && _options.SparseBytes > 0 && _options.TargetIsZero);

    // One unit of the target that is several extents of the source: read through the source as one piece.
    private async ValueTask<GuestOffset> CopyMixedUnitAsync(GuestOffset at, long chunkEnd, Segment segment, CancellationToken cancellationToken)
    {
        var buffer = segment.Get((int)(Math.Min(Sizes.AlignDown(at.Value, _unit) + _unit, chunkEnd) - at.Value));
        var isLeftOut = true;
        for (var done = 0; done < buffer.Length;)
        {
            var extent = await MapAsync(at + done, buffer.Length - done, cancellationToken).ConfigureAwait(false);
            isLeftOut &= IsLeftOut(extent);
            await ReadSegmentAsync(extent, at + done, buffer.Slice(done, (int)extent.Length), cancellationToken).ConfigureAwait(false);
            done += (int)extent.Length;
        }

        _options.Digest?.Add(at.Value, buffer.Span);
        var written = isLeftOut ? 0 : await WriteRunsAsync(at, buffer, cancellationToken).ConfigureAwait(false);
        Advance(buffer.Length, written);
        return at + buffer.Length;
    }

    private async ValueTask CopyExtentAsync(Extent extent, Segment segment, CancellationToken cancellationToken)
    {
        var isLeftOut = IsLeftOut(extent);
        if (isLeftOut && (_options.Digest is null || extent.ReadsZero))
        {
            _options.Digest?.AddZeros(extent.Offset.Value, extent.Length);
            Advance(extent.Length, 0);
            return;
        }

        if (extent.ReadsZero && _options.SparseBytes > 0)
        {
            _options.Digest?.AddZeros(extent.Offset.Value, extent.Length);
            await _target.WriteZeroesAsync(extent.Offset, extent.Length, cancellationToken).ConfigureAwait(false);
            Advance(extent.Length, 0);
            return;
        }

        if (_options.HostCopy && _options.Digest is null && extent.Kind == ExtentKind.Data && !extent.ReadsZero)
        {
            var copied = _target.TryCopyFrom(extent.Storage!, extent.HostOffset, extent.Offset, extent.Length);
            Advance(copied, copied);
            if (copied == extent.Length)
            {
                return;
            }

            extent = extent with
            {
                Offset = extent.Offset + copied,
                Length = extent.Length - copied,
                HostOffset = extent.HostOffset + copied,
            };
        }

        // A compressed cluster is decoded as a whole, so it is read as a whole.
        var step = (extent.Flags & ExtentFlags.Compressed) != 0 ? Math.Min(extent.Length, ChunkBytes) : Math.Max(SegmentBytes, _unit);
        for (long done = 0; done < extent.Length;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var buffer = segment.Get((int)Math.Min(step, extent.Length - done));
            await CopySegmentAsync(extent, extent.Offset + done, buffer, isLeftOut, cancellationToken).ConfigureAwait(false);
            done += buffer.Length;
        }
    }

    private async ValueTask CopySegmentAsync(Extent extent, GuestOffset at, Memory<byte> buffer, bool isLeftOut, CancellationToken cancellationToken)
    {
        await ReadSegmentAsync(extent, at, buffer, cancellationToken).ConfigureAwait(false);
        _options.Digest?.Add(at.Value, buffer.Span);
        var written = isLeftOut ? 0 : await WriteRunsAsync(at, buffer, cancellationToken).ConfigureAwait(false);
        Advance(buffer.Length, written);
    }

    private async ValueTask ReadSegmentAsync(Extent extent, GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (_limiter is not null)
        {
            await _limiter.TakeAsync(buffer.Length, cancellationToken).ConfigureAwait(false);
        }

        try
        {
            await BlockNode.ReadExtentAsync(extent, at, buffer, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (_options.Salvage)
        {
            await SalvageAsync(extent, at, buffer, e, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Reads what can be read, sector by sector; the rest is zeros.</summary>
    private async ValueTask SalvageAsync(Extent extent, GuestOffset at, Memory<byte> buffer, BlockException whole, CancellationToken cancellationToken)
    {
        if (extent.Kind == ExtentKind.Encoded && (extent.Flags & ExtentFlags.Compressed) != 0)
        {
            buffer.Span.Clear();
            ReportSalvaged(at, buffer.Length, whole);
            return;
        }

        var lostFrom = -1;
        BlockException? cause = null;
        for (var done = 0; done < buffer.Length; done += Sizes.SectorBytes)
        {
            var sector = buffer.Slice(done, Math.Min(Sizes.SectorBytes, buffer.Length - done));
            try
            {
                await BlockNode.ReadExtentAsync(extent, at + done, sector, cancellationToken).ConfigureAwait(false);
                if (lostFrom >= 0)
                {
                    ReportSalvaged(at + lostFrom, done - lostFrom, cause!);
                    lostFrom = -1;
                }
            }
            catch (BlockException e)
            {
                sector.Span.Clear();
                lostFrom = lostFrom < 0 ? done : lostFrom;
                cause = e;
            }
        }

        if (lostFrom >= 0)
        {
            ReportSalvaged(at + lostFrom, buffer.Length - lostFrom, cause!);
        }
    }

    /// <summary>Writes the parts that are not zero; returns the bytes written.</summary>
    private async ValueTask<long> WriteRunsAsync(GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (_options.SparseBytes == 0 && !_target.WritesWholeUnits)
        {
            await _target.WriteAsync(at, buffer, cancellationToken).ConfigureAwait(false);
            return buffer.Length;
        }

        long written = 0;
        for (var from = 0; from < buffer.Length;)
        {
            var (length, isZero) = NextRun(buffer.Span[from..], at.Value + from);
            if (!isZero)
            {
                await _target.WriteAsync(at + from, buffer.Slice(from, length), cancellationToken).ConfigureAwait(false);
                written += length;
            }
            else if (!_options.TargetIsZero)
            {
                await _target.WriteZeroesAsync(at + from, length, cancellationToken).ConfigureAwait(false);
            }

            from += length;
        }

        return written;
    }

    private (int Length, bool IsZero) NextRun(ReadOnlySpan<byte> bytes, long position)
    {
        if (!_target.WritesWholeUnits)
        {
            return ZeroRuns.Next(bytes, position, _granularity);
        }

        var length = (int)Math.Min(bytes.Length, _target.Unit - (position & (_target.Unit - 1)));
        return (length, _options.SparseBytes > 0 && ZeroRuns.IsZero(bytes[..length]));
    }

    private void Advance(long done, long written)
    {
        if (done == 0)
        {
            return;
        }

        if (_progress is null)
        {
            Interlocked.Add(ref _written, written);
            return;
        }

        lock (_reportGate)
        {
            _done += done;
            _written += written;
            _progress.Report(new CopyProgress(_done, _source.VirtualSize, _written));
        }
    }

    private void ReportSalvaged(GuestOffset at, long length, BlockException cause)
    {
        lock (_reportGate)
        {
            _options.OnSalvaged(at, length, cause);
        }
    }

    /// <summary>A worker's buffer: grows to what its largest request needed, and goes back to the pool.</summary>
    private sealed class Segment : IDisposable
    {
        private byte[] _bytes = ArrayPool<byte>.Shared.Rent(SegmentBytes);

        public Memory<byte> Get(int length)
        {
            if (_bytes.Length < length)
            {
                ArrayPool<byte>.Shared.Return(_bytes);
                _bytes = ArrayPool<byte>.Shared.Rent(length);
            }

            return _bytes.AsMemory(0, length);
        }

        public void Dispose() => ArrayPool<byte>.Shared.Return(_bytes);
    }
}
