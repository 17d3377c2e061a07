using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Parallels.Create;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Writing;

// Changing the size of the disk. The BAT gets its length first when the disk grows and last when it shrinks; the header's size says it all, in one sector. A BAT that has
// to grow over the first clusters moves these to other places; a checkpoint makes that durable before anything is written where they were.
internal sealed partial class ParallelsWriter
{
    private const int CopyBytes = 1 << 20;

    /// <inheritdoc/>
    public override async ValueTask ResizeAsync(long virtualSize, long backingSize, CancellationToken cancellationToken = default)
    {
        if (virtualSize < 0 || virtualSize % Sizes.SectorBytes != 0)
        {
            throw Refuse(BlockErrorKind.InvalidRequest, $"{virtualSize} is no size for a disk: it must be a multiple of {Sizes.SectorBytes}");
        }

        var entries = Sizes.DivideRoundingUp(virtualSize, ClusterSize);
        var dataOffset = DataOffsetFor(entries);
        if (entries > ParallelsHeader.MaxBatEntryCount || dataOffset / Sizes.SectorBytes > uint.MaxValue
            || (!_header.IsExtended && dataOffset + (entries * ClusterSize) > uint.MaxValue * (long)Sizes.SectorBytes))
        {
            throw Refuse(BlockErrorKind.LimitExceeded, $"a disk of {virtualSize} bytes is too large for the image's cluster size and layout");
        }

        ThrowIfBitmapsDoNotFit(_bitmaps.Select(b => b.Bits.GranularityBits), virtualSize);
        await EnsureInUseAsync(cancellationToken).ConfigureAwait(false);
        var old = VirtualSize;
        var oldEntries = Sizes.DivideRoundingUp(old, ClusterSize);

        // What was allocated behind the end never was part of the disk; what is behind the new end is not any more.
        await UnmapAllAsync(Math.Min(oldEntries, entries), _bat.Count, cancellationToken).ConfigureAwait(false);
        await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        if (entries > _bat.Count)
        {
            await GrowBatAsync(entries, dataOffset, cancellationToken).ConfigureAwait(false);
        }

        if (_hasBacking && oldEntries * ClusterSize < Math.Min(virtualSize, backingSize))
        {
            // The backing file is longer than the disk was: zeros hide it.
            var from = oldEntries * ClusterSize;
            await TryWriteZeroesAsync(new(from), Math.Min(virtualSize, backingSize) - from, mayUnmap: false, cancellationToken).ConfigureAwait(false);
            await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        }

        await ChangeHeaderAsync(
            _header with
            {
                SizeSectors = (ulong)(virtualSize / Sizes.SectorBytes),
                Cylinders = CylindersFor(virtualSize / Sizes.SectorBytes),
                BatEntryCount = (uint)entries,
            },
            cancellationToken).ConfigureAwait(false);
        foreach (var bitmap in _bitmaps)
        {
            bitmap.Resize(virtualSize);
        }
    }

    // Where data begin with so many entries: on the grid that there is. Never further to the front.
    private long DataOffsetFor(long entries) =>
        _geometry.DataOffset + (Sizes.DivideRoundingUp(Math.Max(0, BatEntry.PositionOf(Math.Min(entries, 1L << 40)) - _geometry.DataOffset), ClusterSize) * ClusterSize);

    private async ValueTask UnmapAllAsync(long first, long end, CancellationToken cancellationToken)
    {
        for (var cluster = first; cluster < end;)
        {
            var page = await _bat.GetPageAsync(cluster, cancellationToken).ConfigureAwait(false);
            var start = cluster;
            var behind = Math.Min(end, start + page.End - page.Index);
            await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                for (; cluster < behind; cluster++)
                {
                    var entry = new BatEntry(page.Slots[page.Index + (int)(cluster - start)]);
                    if (!entry.IsUnallocated)
                    {
                        await UnmapAsync(cluster, entry, cancellationToken).ConfigureAwait(false);
                    }
                }
            }
            finally
            {
                _changing.Release();
            }

            await CheckpointIfFullAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask GrowBatAsync(long entries, long dataOffset, CancellationToken cancellationToken)
    {
        var (oldEnd, newEnd) = (_geometry.BatEnd, BatEntry.PositionOf(entries));
        if (dataOffset > _geometry.DataOffset)
        {
            if (_doubtful.Count > 0)
            {
                // The header may name clusters of an extension that was given up.
                await WriteHeaderAsync(_header, cancellationToken).ConfigureAwait(false);
            }

            await MakeRoomAsync(dataOffset, cancellationToken).ConfigureAwait(false);
        }

        // The new entries are 0 before they are entries.
        await _storage.WriteZeroesAsync(new(oldEnd), Math.Max(newEnd, dataOffset) - oldEnd, mayUnmap: false, cancellationToken).ConfigureAwait(false);
        await FlushStorageAsync(cancellationToken).ConfigureAwait(false);
        await ChangeHeaderAsync(
            _header with { BatEntryCount = (uint)entries, DataOffsetSectors = (uint)(dataOffset / Sizes.SectorBytes) }, cancellationToken).ConfigureAwait(false);
    }

    // Moves every cluster that lies before the new data offset. Their places are the BAT's from then on.
    private async ValueTask MakeRoomAsync(long dataOffset, CancellationToken cancellationToken)
    {
        var first = (_geometry.DataOffset - _gridStart) / ClusterSize;
        var end = (dataOffset - _gridStart) / ClusterSize;
        if (end > _limit)
        {
            throw Refuse(BlockErrorKind.NoSpace, "there is no room for a longer BAT");
        }

        List<(long First, long Count)> taken = [];
        try
        {
            await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                for (var cluster = first; cluster < end; cluster++)
                {
                    if (_clusters.TryTake(cluster))
                    {
                        taken.Add((cluster, 1));
                    }
                }

                _clusters.ExistUpTo(end);
                await CoverAsync(dataOffset, cancellationToken).ConfigureAwait(false);
                await MoveAllAsync(end, taken, cancellationToken).ConfigureAwait(false);
            }
            finally
            {
                _changing.Release();
            }

            await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            // Those that were moved are where they are; their old places are free with the next checkpoint.
            await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
            _retired.AddRange(taken);
            _changing.Release();
            throw;
        }
    }

    private async ValueTask MoveAllAsync(long end, List<(long First, long Count)> left, CancellationToken cancellationToken)
    {
        for (long cluster = 0; cluster < _bat.Count;)
        {
            var page = await _bat.GetPageAsync(cluster, cancellationToken).ConfigureAwait(false);
            for (var i = page.Index; i < page.End; i++, cluster++)
            {
                var entry = new BatEntry(page.Slots[i]);
                if (entry.IsUnallocated || HostClusterOf(entry) is var host && host >= end)
                {
                    continue;
                }

                var (place, _, isFresh) = await AllocateAsync(1, cancellationToken).ConfigureAwait(false);
                try
                {
                    await CopyClusterAsync(PlaceOf(host), PlaceOf(place), isFresh, cancellationToken).ConfigureAwait(false);
                    await _bat.SetAsync(cluster, EntryFor(place), cancellationToken).ConfigureAwait(false);
                }
                catch
                {
                    _clusters.Free(place, 1);
                    throw;
                }

                left.Add((host, 1));
            }
        }
    }

    private async ValueTask CopyClusterAsync(HostOffset from, HostOffset to, bool isFresh, CancellationToken cancellationToken)
    {
        var buffer = new byte[(int)Math.Min(CopyBytes, ClusterSize)];
        for (long done = 0; done < ClusterSize; done += buffer.Length)
        {
            var piece = buffer.AsMemory(0, (int)Math.Min(buffer.Length, ClusterSize - done));
            var read = await _storage.ReadAsync(from + done, piece, cancellationToken).ConfigureAwait(false);
            piece.Span[read..].Clear();
            if (!isFresh || piece.Span.ContainsAnyExcept((byte)0))
            {
                await _storage.WriteAsync(to + done, piece, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private async ValueTask ChangeHeaderAsync(ParallelsHeader header, CancellationToken cancellationToken)
    {
        // A data_off of 0 means "behind the BAT", and would mean something else with another BAT.
        header = header.DataOffsetSectors == 0 ? header with { DataOffsetSectors = (uint)(_geometry.DataOffset / Sizes.SectorBytes) } : header;
        if (_length < _geometry.DataOffset)
        {
            await _storage.SetLengthAsync(_geometry.DataOffset, cancellationToken).ConfigureAwait(false);
            _length = _geometry.DataOffset;
        }

        await WriteHeaderAsync(header, CancellationToken.None).ConfigureAwait(false);
        if (header.BatEntryCount != _bat.Count)
        {
            _bat.Resize(header.BatEntryCount);
        }

        Volatile.Write(ref _geometry, new ParallelsGeometry(header, _length));
    }

    // Says nothing about the content, but some guests look at it: with as many heads and sectors per track as before.
    private uint CylindersFor(long sectors)
    {
        foreach (var perTrack in new[] { ParallelsCreateSettings.SectorsPerTrack, 63u })
        {
            var track = (long)_header.Heads * perTrack;
            if (track > 0 && (long)_header.DiskSizeSectors / track == _header.Cylinders)
            {
                return unchecked((uint)(sectors / track));
            }
        }

        return _header.Cylinders;
    }
}
