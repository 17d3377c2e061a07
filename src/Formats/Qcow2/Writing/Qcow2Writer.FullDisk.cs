using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Check;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Snapshots;

namespace Platter.Formats.Qcow2.Writing;

// A snapshot goes on a disk that is full, where there is no room for another state beside the current one. In steps, each of which leaves leaks at most:
// 1. the header's first sector says that there is one snapshot less: from here on it is deleted, and what it had is leaked;
// 2. the refcounts of what it alone had become 0, where they are, and the host gets the space back;
// 3. now there may be room: the refcounts of what it shared become right in one switch, together with the COPIED flags, which say so.
internal sealed partial class Qcow2Writer
{
    private async ValueTask<bool> TryDeleteInStepsAsync(SnapshotSelector selector, CancellationToken cancellationToken)
    {
        await _checkpointing.WaitAsync(cancellationToken).ConfigureAwait(false);
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _checkpoint.ThrowIfBroken();
            if (!await _areRefcountsTrue(cancellationToken).ConfigureAwait(false))
            {
                return false;
            }

            var header = _header.Header;
            var (entries, raw) = await ReadSnapshotsAsync(header, cancellationToken).ConfigureAwait(false);
            var index = Find(entries, selector);
            var l1 = await ReadL1Async(entries[index], cancellationToken).ConfigureAwait(false);
            if (index < entries.Count - 1 && !await TryPutLastAsync(header, raw, index, cancellationToken).ConfigureAwait(false))
            {
                return false;
            }

            _header.Set32(Qcow2Header.NbSnapshotsAt, (uint)entries.Count - 1);
            _header.Set64(Qcow2Header.SnapshotsOffsetAt, entries.Count == 1 ? 0 : header.SnapshotsOffset);
            await _checkpoint.SwitchHeaderAsync().ConfigureAwait(false);
            Snapshots = [.. entries.Where((_, i) => i != index).Select(s => SnapshotTable.ToInfo(s, VirtualSize))];
            await RetireOwnOfAsync(l1).ConfigureAwait(false);
            RetireBytes((long)entries[index].L1TableOffset, entries[index].L1Size * (long)L1Entry.Size);
            RetireBytes((long)header.SnapshotsOffset, entries.Count == 1 ? raw.Sum(r => (long)r.Length) : 0);
            (_allocator.MayReuse, _reuseWasJudged) = (true, true);
        }
        finally
        {
            _changing.Release();
            _checkpointing.Release();
        }

        // The first releases, the second writes the refcounts.
        await CheckpointAsync(CancellationToken.None).ConfigureAwait(false);
        await CheckpointAsync(CancellationToken.None, final: true).ConfigureAwait(false);
        try
        {
            await ShadowAsync(
                async _ =>
                {
                    var metadata = await Qcow2Opening.ReadForCheckAsync(_storage, cancellationToken).ConfigureAwait(false);
                    var check = new Qcow2Check(_storage, metadata, static _ => { }, null);
                    if (await check.RunAsync(cancellationToken).ConfigureAwait(false) is { Corruptions: 0, Errors: 0 } && check.IsComplete)
                    {
                        await _refcounts.LowerAsync(check.Counts.Count, cancellationToken).ConfigureAwait(false);
                    }
                },
                cancellationToken,
                givesUpSpace: true).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.NoSpace && _checkpoint.Broken is null)
        {
            // The snapshot is gone. What it shared keeps refcounts that are too high: leaks, which a repair gives back when there is room.
        }

        return true;
    }

    // The entry that is to go becomes the last one of the table, if that is the matter of one sector.
    private async ValueTask<bool> TryPutLastAsync(Qcow2Header header, List<byte[]> raw, int index, CancellationToken cancellationToken)
    {
        if (raw.Sum(r => (long)r.Length) > Sizes.SectorBytes)
        {
            return false;
        }

        var sector = new byte[Sizes.SectorBytes];
        var at = new HostOffset((long)header.SnapshotsOffset);
        _ = await _storage.ReadAsync(at, sector, cancellationToken).ConfigureAwait(false);
        var position = 0;
        foreach (var entry in raw.Where((_, i) => i != index).Append(raw[index]))
        {
            entry.CopyTo(sector, position);
            position += entry.Length;
        }

        await _storage.WriteAsync(at, sector, CancellationToken.None).ConfigureAwait(false);
        return true;
    }

    // What a refcount of 1 says to be nobody else's. An L2 table that others have too leads to nothing that is not theirs as well.
    private async ValueTask RetireOwnOfAsync(ulong[] l1)
    {
        var bytes = new byte[_geometry.ClusterSize];
        foreach (var table in l1.Select(e => new L1Entry(e)).Where(e => !e.IsAbsent))
        {
            var cluster = table.TableOffset.Value >> _geometry.ClusterBits;
            if (await _refcounts.GetAsync(cluster, CancellationToken.None).ConfigureAwait(false) != 1)
            {
                continue;
            }

            _ = await _storage.ReadAsync(table.TableOffset, bytes, CancellationToken.None).ConfigureAwait(false);
            var words = BigEndianWords.ToHost(bytes).ToArray();
            for (var word = 0; word < words.Length; word += _geometry.L2EntryWords)
            {
                var entry = new L2Entry(words[word]);
                if (!entry.IsCompressed && (entry.Value & L2Entry.OffsetMask) != 0
                    && await _refcounts.GetAsync(entry.Offset.Value >> _geometry.ClusterBits, CancellationToken.None).ConfigureAwait(false) == 1)
                {
                    Retire(entry.Offset.Value >> _geometry.ClusterBits, 1, givesSpace: true);
                }
            }

            Retire(cluster, 1, givesSpace: true);
        }
    }

    private void RetireBytes(long at, long length)
    {
        if (length > 0)
        {
            var first = at >> _geometry.ClusterBits;
            Retire(first, ((at + length - 1) >> _geometry.ClusterBits) - first + 1, givesSpace: true);
        }
    }
}
