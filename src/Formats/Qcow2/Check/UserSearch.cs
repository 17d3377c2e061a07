using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Walks the active tables once and finds who uses certain host clusters: data, or the table of a range.</summary>
internal sealed class UserSearch(Storage storage, Qcow2Metadata metadata, IReadOnlySet<HostOffset> places, int maxRanges)
{
    private readonly Qcow2Geometry _geometry = metadata.Geometry;
    private readonly Dictionary<HostOffset, List<(GuestOffset Offset, long Length)>> _found = [];
    private readonly Dictionary<HostOffset, int> _walks = [];

    public async ValueTask<IReadOnlyDictionary<HostOffset, IReadOnlyList<(GuestOffset Offset, long Length)>>> RunAsync(CancellationToken cancellationToken)
    {
        var header = metadata.Header;
        var l1 = await ReadAsync(new((long)header.L1TableOffset), (int)header.L1Size * L1Entry.Size, cancellationToken).ConfigureAwait(false);
        for (var i = 0; i < l1.Length && places.Count > 0; i++)
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

        return _found.ToDictionary(pair => pair.Key, pair => (IReadOnlyList<(GuestOffset Offset, long Length)>)pair.Value);
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
        guestLength = Math.Min(guestLength, metadata.Header.VirtualSize - guest);
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

            if (ranges.Count > 0 && ranges[^1] is var last && last.Offset.Value + last.Length == guest)
            {
                ranges[^1] = (last.Offset, last.Length + guestLength);
            }
            else if (ranges.Count < maxRanges)
            {
                ranges.Add((new(guest), guestLength));
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
