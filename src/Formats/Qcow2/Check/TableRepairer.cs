using System.Buffers.Binary;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Findings;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Mends L1 and L2 tables: what is to be changed is written to new clusters, and the references to the tables are counted over.</summary>
/// <remarks>Nothing that the guest sees changes: only COPIED flags, bits that mean nothing, and the place of clusters of zeros that have none.</remarks>
internal sealed class TableRepairer(
    Storage storage, Qcow2Metadata metadata, RefcountRebuilder refcounts, ReferenceCounts counts, RepairSpace space, CheckTally tally, bool entriesToo)
{
    private const int PrefetchTables = 32;

    private readonly Qcow2Geometry _geometry = metadata.Geometry;

    private readonly byte[] _buffer = new byte[metadata.Geometry.ClusterSize];

    // Entries that lead to what the file does not have: the refcounts of that are not in memory.
    private readonly List<(int Word, GuestOffset Guest)> _beyondTheEnd = [];

    // Where the copies of tables are that have several users: they go on sharing them.
    private readonly Dictionary<long, long> _copies = [];

    // Any other entry of a plain cluster is looked at in detail.
    private readonly ulong _notPlain = metadata.Geometry.HasExtendedL2
        ? ulong.MaxValue
        : ~(L2Entry.OffsetMask & ~(ulong)metadata.Geometry.ClusterMask);

    /// <summary>Mends what an L1 table leads to.</summary>
    /// <param name="l1At">Where it is.</param>
    /// <param name="entryCount">Entries; judged before.</param>
    /// <param name="what">Its name for messages.</param>
    /// <param name="isActive">It is the disk's own; otherwise COPIED flags mean nothing.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <returns>The table as it should be, or null when it is right.</returns>
    public async ValueTask<byte[]?> RepairAsync(HostOffset l1At, long entryCount, string what, bool isActive, CancellationToken cancellationToken)
    {
        var bytes = new byte[entryCount * L1Entry.Size];
        _ = await storage.ReadAsync(l1At, bytes, cancellationToken).ConfigureAwait(false);
        var l1 = BigEndianWords.ToHost(bytes).ToArray();
        if (isActive)
        {
            await JudgeCopiedAsync(l1, what, cancellationToken).ConfigureAwait(false);
        }

        var table = new ulong[_geometry.ClusterSize / sizeof(ulong)];
        var isChanged = false;
        for (var i = 0; i < l1.Length; i++)
        {
            var entry = new L1Entry(l1[i]);
            if (i % PrefetchTables == 0)
            {
                PrefetchFrom(l1, i);
            }

            if (entry.IsAbsent)
            {
                if (entriesToo && entry.Value != 0)
                {
                    l1[i] = 0;
                    isChanged = true;
                }

                continue;
            }

            if (entriesToo && entry.ReservedBits != 0)
            {
                l1[i] &= ~L1Entry.ReservedMask;
                isChanged = true;
            }

            if ((entry.TableOffset.Value & _geometry.ClusterMask) == 0)
            {
                var old = entry.TableOffset.Value >> _geometry.ClusterBits;
                var now = await RepairTableAsync(old, i, table, isActive, cancellationToken).ConfigureAwait(false);
                if (now != old)
                {
                    refcounts.Remove(old);
                    refcounts.Add(now);
                    l1[i] = (l1[i] & ~L1Entry.OffsetMask) | ((ulong)now << _geometry.ClusterBits);
                    isChanged = true;
                }
            }
        }

        if (isActive)
        {
            isChanged |= await SetCopiedAsync(l1, cancellationToken).ConfigureAwait(false);
        }

        return isChanged ? Bytes(l1) : null;
    }

    /// <summary>Sets the flags of entries that are the only users of their clusters now, since tables that were there too have moved.</summary>
    /// <param name="l1Bytes">The disk's own L1 table, as it is to be.</param>
    /// <param name="owned">The clusters.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <returns>Whether the L1 table is another now.</returns>
    public async ValueTask<bool> SettleAsync(byte[] l1Bytes, IReadOnlySet<long> owned, CancellationToken cancellationToken)
    {
        var l1 = BigEndianWords.ToHost(l1Bytes.ToArray()).ToArray();
        var words = new ulong[_geometry.ClusterSize / sizeof(ulong)];
        var settled = new Dictionary<long, long>();
        for (var i = 0; i < l1.Length && !metadata.HasDataFile; i++)
        {
            var old = new L1Entry(l1[i]).TableOffset.Value >> _geometry.ClusterBits;
            if (new L1Entry(l1[i]).IsAbsent || (new L1Entry(l1[i]).TableOffset.Value & _geometry.ClusterMask) != 0)
            {
                continue;
            }

            if (!settled.TryGetValue(old, out var now))
            {
                settled[old] = now = await SettleTableAsync(old, words, owned, cancellationToken).ConfigureAwait(false);
            }

            if (now != old)
            {
                refcounts.Remove(old);
                refcounts.Add(now);
                l1[i] = (l1[i] & ~L1Entry.OffsetMask) | ((ulong)now << _geometry.ClusterBits);
            }
        }

        await SetCopiedAsync(l1, cancellationToken).ConfigureAwait(false);
        var isChanged = !Bytes(l1).AsSpan().SequenceEqual(l1Bytes);
        Bytes(l1).CopyTo(l1Bytes, 0);
        return isChanged;
    }

    private async ValueTask<long> SettleTableAsync(long cluster, ulong[] words, IReadOnlySet<long> owned, CancellationToken cancellationToken)
    {
        // More users than snapshots explain: nobody looked at these tables.
        if (counts.Count(cluster) > (ulong)(TableChecker.MaxWalks + metadata.Snapshots.Count))
        {
            return cluster;
        }

        var at = new HostOffset(cluster << _geometry.ClusterBits);
        var read = await storage.ReadAsync(at, _buffer, cancellationToken).ConfigureAwait(false);
        _buffer.AsSpan(read).Clear();
        BigEndianWords.ToHost(_buffer).CopyTo(words);
        var isChanged = false;
        for (var i = 0; i < words.Length; i += _geometry.L2EntryWords)
        {
            var entry = new L2Entry(words[i]);
            if (!entry.IsCompressed && !entry.IsCopied && entry.Offset.Value != 0 && (entry.Offset.Value & _geometry.ClusterMask) == 0
                && entry.Offset.Value >> _geometry.ClusterBits is var data && owned.Contains(data) && refcounts.IsOne(data))
            {
                words[i] |= L2Entry.CopiedFlag;
                isChanged = true;
            }
        }

        if (isChanged && (cluster < space.First || cluster >= space.Limit))
        {
            cluster = space.Take(1);
            await space.WriteAsync(cluster, Bytes(words), cancellationToken).ConfigureAwait(false);
        }
        else if (isChanged)
        {
            await storage.WriteAsync(at, Bytes(words), cancellationToken).ConfigureAwait(false);
        }

        return cluster;
    }

    private async ValueTask<long> RepairTableAsync(long cluster, int index, ulong[] words, bool isActive, CancellationToken cancellationToken)
    {
        if (_copies.TryGetValue(cluster, out var copy))
        {
            return copy;
        }

        // More users than snapshots explain: the check does not look at these tables either.
        var users = counts.Count(cluster);
        if (users > (ulong)(TableChecker.MaxWalks + metadata.Snapshots.Count))
        {
            return cluster;
        }

        var read = await storage.ReadAsync(new(cluster << _geometry.ClusterBits), _buffer, cancellationToken).ConfigureAwait(false);
        _buffer.AsSpan(read).Clear();
        BigEndianWords.ToHost(_buffer).CopyTo(words);
        var now = cluster;
        var isChanged = Repair(words, index, isActive);
        foreach (var (word, guest) in _beyondTheEnd)
        {
            var entry = new L2Entry(words[word]);
            if (await IsOneAsync(entry.Offset, cancellationToken).ConfigureAwait(false) != entry.IsCopied)
            {
                TellCopied(entry.IsCopied, entry.Offset, Referrer.L2Entry(guest));
                words[word] ^= L2Entry.CopiedFlag;
                isChanged = true;
            }
        }

        _beyondTheEnd.Clear();
        if (isChanged)
        {
            now = space.Take(1);
            await space.WriteAsync(now, Bytes(words), cancellationToken).ConfigureAwait(false);
        }

        if (users > 1)
        {
            _copies[cluster] = now;
        }

        return now;
    }

    private bool Repair(ulong[] words, long index, bool isActive)
    {
        var step = _geometry.L2EntryWords;
        var isChanged = false;
        for (var i = 0; i < words.Length; i += step)
        {
            if (words[i] == 0)
            {
                var used = words.AsSpan(i).IndexOfAnyExcept(0UL);
                if (used < 0)
                {
                    break;
                }

                i += used;
                i -= i & (step - 1);
            }

            var word = words[i];
            if ((word & _notPlain) == L2Entry.CopiedFlag && isActive && !metadata.HasDataFile
                && new L2Entry(word).Offset.Value >> _geometry.ClusterBits is var cluster && cluster < refcounts.StoredFrom && refcounts.IsOne(cluster))
            {
                continue;
            }

            var bitmap = new SubclusterBitmap(step == 2 ? words[i + 1] : 0);
            var guest = new GuestOffset(unchecked((index << _geometry.GuestBytesPerL2Bits) + ((long)(i / step) << _geometry.ClusterBits)));
            words[i] = RepairEntry(new(word), bitmap, guest, isActive, i);
            isChanged |= words[i] != word;
        }

        return isChanged;
    }

    private ulong RepairEntry(L2Entry entry, SubclusterBitmap bitmap, GuestOffset guest, bool isActive, int word)
    {
        var value = entry.Value;
        if (entry.IsCompressed)
        {
            return entriesToo ? value & ~L2Entry.CopiedFlag : value;
        }

        if (entriesToo)
        {
            value &= ~L2Entry.ReservedMask;
        }

        var isAllocated = entry.Offset.Value != 0 || (metadata.HasDataFile && entry.IsCopied && (_geometry.HasExtendedL2 || !entry.IsZero));
        if (!isAllocated)
        {
            return value;
        }

        if (entriesToo && TableChecker.CanGiveUpPlace(entry, bitmap, _geometry))
        {
            return value & ~(L2Entry.OffsetMask | L2Entry.CopiedFlag);
        }

        if (isActive && !metadata.HasDataFile && entry.Offset.Value >> _geometry.ClusterBits >= refcounts.StoredFrom)
        {
            _beyondTheEnd.Add((word, guest));
            return value;
        }

        if (isActive && (metadata.HasDataFile || refcounts.IsOne(entry.Offset.Value >> _geometry.ClusterBits)) != entry.IsCopied)
        {
            TellCopied(entry.IsCopied, entry.Offset, Referrer.L2Entry(guest));
            value ^= L2Entry.CopiedFlag;
        }

        return value;
    }

    // By what is counted before any table moves: a table that moves gets the right flag anyway.
    private async ValueTask JudgeCopiedAsync(ulong[] l1, string what, CancellationToken cancellationToken)
    {
        for (var i = 0; i < l1.Length; i++)
        {
            var entry = new L1Entry(l1[i]);
            if (!entry.IsAbsent && await IsOneAsync(entry.TableOffset, cancellationToken).ConfigureAwait(false) != entry.IsCopied)
            {
                TellCopied(entry.IsCopied, entry.TableOffset, Referrer.Entry(what, i));
            }
        }
    }

    private async ValueTask<bool> SetCopiedAsync(ulong[] l1, CancellationToken cancellationToken)
    {
        var isChanged = false;
        for (var i = 0; i < l1.Length; i++)
        {
            var entry = new L1Entry(l1[i]);
            if (!entry.IsAbsent && await IsOneAsync(entry.TableOffset, cancellationToken).ConfigureAwait(false) != entry.IsCopied)
            {
                l1[i] ^= L1Entry.CopiedFlag;
                isChanged = true;
            }
        }

        return isChanged;
    }

    private async ValueTask<bool> IsOneAsync(HostOffset at, CancellationToken cancellationToken)
    {
        // Of the clusters behind the end of the file only the new ones are counted.
        var cluster = at.Value >> _geometry.ClusterBits;
        return cluster < refcounts.StoredFrom || (cluster >= space.First && cluster < space.Limit)
            ? refcounts.IsOne(cluster)
            : await refcounts.IsOneBeyondTheEndAsync(cluster, cancellationToken).ConfigureAwait(false);
    }

    private void TellCopied(bool isCopied, HostOffset at, in Referrer who) => tally.Corruption(
        $"{who}: COPIED is {(isCopied ? "set" : "not set")}, and the cluster at {at} has {(isCopied ? "no user or several" : "one user")}", Remedies.Copied,
        at, who.Guest, who.Guest is null ? 0 : _geometry.ClusterSize, isFixed: true);

    private void PrefetchFrom(ulong[] l1, int index)
    {
        for (var i = index; i < Math.Min(index + PrefetchTables, l1.Length); i++)
        {
            if (new L1Entry(l1[i]) is { IsAbsent: false } entry)
            {
                storage.Prefetch(entry.TableOffset, _geometry.ClusterSize);
            }
        }
    }

    private static byte[] Bytes(ulong[] words)
    {
        var bytes = new byte[words.Length * sizeof(ulong)];
        for (var i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(i * sizeof(ulong)), words[i]);
        }

        return bytes;
    }
}
