using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Walks the tables of the disk and of its snapshots once and finds who uses certain host clusters: data, or the tables that lead to them.</summary>
internal sealed class UserSearch(Storage storage, Qcow2Metadata metadata, IReadOnlySet<HostOffset> places, int maxRanges)
{
    private readonly Qcow2Geometry _geometry = metadata.Geometry;
    private readonly Dictionary<HostOffset, List<ClusterUse>> _found = [];
    private readonly Dictionary<HostOffset, int> _walks = [];
    private string? _snapshot;
    private long _size;

    public async ValueTask<IReadOnlyDictionary<HostOffset, IReadOnlyList<ClusterUse>>> RunAsync(CancellationToken cancellationToken)
    {
        if (places.Count == 0)
        {
            return new Dictionary<HostOffset, IReadOnlyList<ClusterUse>>();
        }

        var header = metadata.Header;
        _size = header.VirtualSize;
        Note(0, _geometry.ClusterSize, 0, _size);
        await WalkAsync((long)header.L1TableOffset, header.L1Size, cancellationToken).ConfigureAwait(false);
        long l1Bytes = 0;
        foreach (var snapshot in metadata.Snapshots)
        {
            var length = snapshot.L1Size * (long)L1Entry.Size;
            if ((snapshot.L1TableOffset & (ulong)_geometry.ClusterMask) != 0 || snapshot.L1TableOffset > (ulong)storage.Length || length > Qcow2Header.MaxL1Bytes)
            {
                continue;
            }

            // Tables that do not overlap fit the file together.
            l1Bytes += length;
            if (l1Bytes > storage.Length + Qcow2Header.MaxL1Bytes)
            {
                break;
            }

            (_snapshot, _size) = (snapshot.Name, (long)Math.Min(snapshot.DiskSize ?? header.Size, long.MaxValue));
            await WalkAsync((long)snapshot.L1TableOffset, snapshot.L1Size, cancellationToken).ConfigureAwait(false);
        }

        return _found.ToDictionary(pair => pair.Key, pair => (IReadOnlyList<ClusterUse>)pair.Value);
    }

    private async ValueTask WalkAsync(long l1At, uint l1Size, CancellationToken cancellationToken)
    {
        Note(l1At, l1Size * (long)L1Entry.Size, 0, _size);
        var l1 = await ReadAsync(new(l1At), (int)l1Size * L1Entry.Size, cancellationToken).ConfigureAwait(false);
        for (var i = 0; i < l1.Length; i++)
        {
            var entry = new L1Entry(l1[i]);
            if (entry.IsAbsent)
            {
                continue;
            }

            var guest = (long)i << _geometry.GuestBytesPerL2Bits;
            Note(entry.TableOffset.Value, _geometry.ClusterSize, guest, 1L << _geometry.GuestBytesPerL2Bits);
            if ((entry.TableOffset.Value & _geometry.ClusterMask) != 0 || metadata.HasDataFile || !MayWalk(entry.TableOffset))
            {
                continue;
            }

            var words = await ReadAsync(entry.TableOffset, _geometry.ClusterSize, cancellationToken).ConfigureAwait(false);
            for (var word = 0; word < words.Length; word += _geometry.L2EntryWords)
            {
                if (words[word] != 0)
                {
                    Note(new L2Entry(words[word]), guest + ((long)(word / _geometry.L2EntryWords) << _geometry.ClusterBits));
                }
            }
        }
    }

    // A million entries may name one table.
    private bool MayWalk(HostOffset table)
    {
        var walks = _walks.GetValueOrDefault(table);
        _walks[table] = walks + 1;
        return walks < TableChecker.MaxWalks;
    }

    private void Note(L2Entry entry, long guest)
    {
        if (entry.IsCompressed)
        {
            Note(entry.CompressedOffset(_geometry).Value, entry.CompressedLength(_geometry), guest, _geometry.ClusterSize);
        }
        else if (entry.Offset.Value != 0)
        {
            Note(entry.Offset.Value, _geometry.ClusterSize, guest, _geometry.ClusterSize);
        }
    }

    private void Note(long host, long hostLength, long guest, long guestLength)
    {
        guestLength = Math.Min(guestLength, _size - guest);
        if (guestLength <= 0)
        {
            return;
        }

        for (var cluster = host & ~_geometry.ClusterMask; cluster < host + hostLength; cluster += _geometry.ClusterSize)
        {
            var place = new HostOffset(cluster);
            if (!places.Contains(place))
            {
                continue;
            }

            if (!_found.TryGetValue(place, out var ranges))
            {
                _found.Add(place, ranges = []);
            }

            // Tables can be used by several entries, and by themselves: what overlaps or touches is one range.
            var (start, end) = (guest, guest + guestLength);
            var first = ranges.Count;
            for (var i = ranges.Count - 1; i >= 0; i--)
            {
                var (offset, length, snapshot) = ranges[i];
                if (snapshot == _snapshot && offset.Value <= end && start <= offset.Value + length)
                {
                    (start, end, first) = (Math.Min(start, offset.Value), Math.Max(end, offset.Value + length), i);
                    ranges.RemoveAt(i);
                }
            }

            if (ranges.Count < maxRanges)
            {
                ranges.Insert(first, new(new(start), end - start, _snapshot));
            }
        }
    }

    private async ValueTask<ulong[]> ReadAsync(HostOffset at, int length, CancellationToken cancellationToken)
    {
        var bytes = new byte[length];
        _ = await storage.ReadAsync(at, bytes, cancellationToken).ConfigureAwait(false);
        return BigEndianWords.ToHost(bytes).ToArray();
    }
}
