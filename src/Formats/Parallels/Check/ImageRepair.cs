using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Metadata;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bitmaps;
using Platter.Formats.Parallels.Layout;
using Platter.Formats.Parallels.Metadata;

namespace Platter.Formats.Parallels.Check;

/// <summary>Mends one image.</summary>
/// <remarks>
/// 1. The check finds what is wrong and plans what to do about it.
/// 2. Clusters that need a place of their own are copied behind the end of the file; flush.
/// 3. What takes it all back is handed out (<see cref="OverwriteUndo"/>).
/// 4. The sectors of the BAT that change are written; flush; then the header; flush; the file is cut; flush.
/// 5. The image is checked again.
/// The format has no second place for its table, so a cut during step 4 leaves some entries mended and some not: each of them is right by itself, the rest is found again, and
/// the undo file takes back either.
/// </remarks>
internal sealed class ImageRepair
{
    private const int CopyBytes = 1 << 20;

    private readonly Storage _storage;
    private readonly ParallelsHeader _header;
    private readonly ParallelsGeometry _geometry;
    private readonly ImageExtension _extension;
    private readonly RepairOptions _options;
    private readonly Action<CheckFinding> _report;
    private readonly IProgress<double>? _progress;
    private readonly SortedDictionary<long, byte[]> _sectors = [];
    private readonly long _lengthBefore;

    public ImageRepair(
        Storage storage, in ParallelsHeader header, ParallelsGeometry geometry, ImageExtension extension, RepairOptions options, Action<CheckFinding> report,
        IProgress<double>? progress)
    {
        (_storage, _header, _geometry, _extension, _options, _report, _progress) = (storage, header, geometry, extension, options, report, progress);
        _lengthBefore = storage.Length;
    }

    /// <summary>Runs the repair.</summary>
    /// <exception cref="BlockException">The image must not be changed, or the host could not write.</exception>
    public async ValueTask<RepairReport> RunAsync(CancellationToken cancellationToken)
    {
        if (_extension.ForbidsWriting)
        {
            throw new BlockException(
                BlockErrorKind.Unsupported, $"{_storage.Name}: its Format Extension has an unknown feature that forbids changing the image; it cannot be repaired");
        }

        var check = new ImageCheck(_storage, _header, _geometry, NewTable(_geometry), _extension, _report, _progress, _options.Mode);
        var report = await check.RunAsync(cancellationToken).ConfigureAwait(false);
        var plan = check.Plan;
        if (plan.IsEmpty)
        {
            return new RepairReport { Check = report };
        }

        var lengthAfter = plan.Copied.Count == 0 && plan.CutAt is { } end ? end : Math.Max(_lengthBefore, plan.LeastLength);
        try
        {
            lengthAfter = await WriteNewAsync(plan, lengthAfter, cancellationToken).ConfigureAwait(false);
            foreach (var index in plan.Cleared)
            {
                await SetEntryAsync(index, 0, cancellationToken).ConfigureAwait(false);
            }

            // The last cluster in use may be one that the check did not see as such.
            await ChangeHeaderAsync(plan, cancellationToken).ConfigureAwait(false);
            cancellationToken.ThrowIfCancellationRequested();
            if (_options.BeforeSwitch is { } tell)
            {
                var undo = await OverwriteUndo.DescribeAsync(_storage, _lengthBefore, lengthAfter, _sectors, _geometry.BatEnd, cancellationToken).ConfigureAwait(false);
                await tell(undo, cancellationToken).ConfigureAwait(false);
            }
        }
        catch
        {
            await GiveBackAsync().ConfigureAwait(false);
            throw;
        }

        await SwitchAsync(lengthAfter).ConfigureAwait(false);
        return new RepairReport
        {
            CorruptionsFixed = check.CorruptionsFixed,
            LeaksFixed = check.LeaksFixed,
            IsChanged = true,
            Check = await RecheckAsync(cancellationToken).ConfigureAwait(false),
        };
    }

    // Everything behind the old end of the file.
    private async ValueTask<long> WriteNewAsync(RepairPlan plan, long lengthAfter, CancellationToken cancellationToken)
    {
        var size = _geometry.ClusterSizeBytes;
        if (plan.Copied.Count > 0)
        {
            // The grid is that of the header as it will be.
            var start = plan.DataOffset ?? _geometry.DataOffset;
            var next = start + (Sizes.DivideRoundingUp(Math.Max(lengthAfter - start, 0), size) * size);
            var buffer = new byte[Math.Min(size, CopyBytes)];
            foreach (var (index, host) in plan.Copied)
            {
                var entry = next / _geometry.EntryUnitBytes;
                if (entry > uint.MaxValue)
                {
                    throw new BlockException(BlockErrorKind.NoSpace, $"{_storage.Name}: no BAT entry can address a cluster at 0x{next:x}; nothing was changed");
                }

                await CopyAsync(host, next, buffer, cancellationToken).ConfigureAwait(false);
                await SetEntryAsync(index, (uint)entry, cancellationToken).ConfigureAwait(false);
                next += size;
            }

            lengthAfter = next;
        }

        if (lengthAfter > _storage.Length)
        {
            await _storage.SetLengthAsync(lengthAfter, cancellationToken).ConfigureAwait(false);
        }

        await _storage.FlushAsync(cancellationToken).ConfigureAwait(false);
        return lengthAfter;
    }

    private async ValueTask CopyAsync(long from, long to, byte[] buffer, CancellationToken cancellationToken)
    {
        for (long done = 0; done < _geometry.ClusterSizeBytes;)
        {
            var part = buffer.AsMemory(0, (int)Math.Min(buffer.Length, _geometry.ClusterSizeBytes - done));
            var read = from + done < _lengthBefore ? await _storage.ReadAsync(new(from + done), part, cancellationToken).ConfigureAwait(false) : 0;
            part.Span[read..].Clear();
            await _storage.WriteAsync(new(to + done), part, cancellationToken).ConfigureAwait(false);
            done += part.Length;
        }
    }

    private async ValueTask SetEntryAsync(long index, uint value, CancellationToken cancellationToken)
    {
        var at = BatEntry.PositionOf(index);
        var sector = await SectorAsync(Sizes.AlignDown(at, Sizes.SectorBytes), cancellationToken).ConfigureAwait(false);
        BinaryPrimitives.WriteUInt32LittleEndian(sector.AsSpan((int)(at % Sizes.SectorBytes)), value);
    }

    private async ValueTask ChangeHeaderAsync(RepairPlan plan, CancellationToken cancellationToken)
    {
        var header = _header;
        if (plan.DataOffset is { } offset)
        {
            header = header with { DataOffsetSectors = (uint)(offset / Sizes.SectorBytes) };
        }

        if (plan.DropsExtension)
        {
            header = header with { ExtensionOffsetSectors = 0 };
        }

        if (plan.Closes)
        {
            header = header with { InUse = 0 };
        }

        if (header != _header)
        {
            var sector = await SectorAsync(0, cancellationToken).ConfigureAwait(false);
            header.WriteTo(sector);
        }
    }

    // As it will be; read when it is needed first.
    private async ValueTask<byte[]> SectorAsync(long at, CancellationToken cancellationToken)
    {
        if (!_sectors.TryGetValue(at, out var sector))
        {
            sector = new byte[Sizes.SectorBytes];
            _ = await _storage.ReadAsync(new(at), sector, cancellationToken).ConfigureAwait(false);
            _sectors.Add(at, sector);
        }

        return sector;
    }

    private async ValueTask SwitchAsync(long lengthAfter)
    {
        foreach (var (at, sector) in _sectors.Where(sector => sector.Key > 0))
        {
            await _storage.WriteAsync(new(at), sector, CancellationToken.None).ConfigureAwait(false);
        }

        await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        if (_sectors.TryGetValue(0, out var first))
        {
            await _storage.WriteAsync(default, first, CancellationToken.None).ConfigureAwait(false);
            await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        }

        if (lengthAfter < _storage.Length)
        {
            await _storage.SetLengthAsync(lengthAfter, CancellationToken.None).ConfigureAwait(false);
            await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        }
    }

    // Nothing refers to what was written behind the end; that it cannot be cut off is no reason to hide why.
    private async ValueTask GiveBackAsync()
    {
        try
        {
            if (_storage.Length > _lengthBefore)
            {
                await _storage.SetLengthAsync(_lengthBefore, CancellationToken.None).ConfigureAwait(false);
            }
        }
        catch (BlockException)
        {
        }
    }

    private async ValueTask<CheckReport> RecheckAsync(CancellationToken cancellationToken)
    {
        var bytes = new byte[ParallelsHeader.Size];
        _ = await _storage.ReadAsync(default, bytes, cancellationToken).ConfigureAwait(false);
        var header = ParallelsHeader.Parse(bytes, _storage.Name);
        var geometry = new ParallelsGeometry(header, _storage.Length);
        var extension = await ImageExtension.LoadAsync(_storage, header, geometry, OpenLimits.Default, cancellationToken).ConfigureAwait(false);
        return await new ImageCheck(_storage, header, geometry, NewTable(geometry), extension, static _ => { }, null).RunAsync(cancellationToken).ConfigureAwait(false);
    }

    // Past any cache: the table changes under it.
    private BatTable NewTable(ParallelsGeometry geometry) => new(_storage, new MetadataCache(0), geometry.BatEntryCount);
}
