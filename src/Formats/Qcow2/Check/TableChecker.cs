using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Findings;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Walks an L1 table and the L2 tables below it: counts references, judges entries and, in the active tables, their COPIED flags.</summary>
internal sealed class TableChecker(
    Storage storage, Qcow2Metadata metadata, ReferenceCounts counts, ReferenceCounter references, RefcountChecker refcounts, CheckTally tally, IProgress<double>? progress)
{
    private const int L1ChunkBytes = 64 * 1024;

    // L2 tables of a disk written at random are scattered over the file: ask for some ahead of time.
    private const int PrefetchTables = 16;

    // More walks of one L2 table than snapshots explain are a corruption that has been found by then.
    internal const int MaxWalks = 64;

    private readonly Qcow2Geometry _geometry = metadata.Geometry;
    private readonly List<(long Cluster, bool IsCopied, Referrer Who)> _beyondTheEnd = [];

    // All bits but those of an aligned host offset. With extended entries or a data file no entry is plain.
    private readonly ulong _notPlain = metadata.Geometry.HasExtendedL2 || metadata.HasDataFile
        ? ulong.MaxValue
        : ~(L2Entry.OffsetMask & ~(ulong)metadata.Geometry.ClusterMask);

    private long _nextContiguous;

    // A table where no table can be is not one to copy: readers refuse it, and what is there was never meant as entries.
    private bool _isMendable;

    /// <summary>What is being repaired; null for a check. A repair judges COPIED flags later, by the refcounts that it will have written.</summary>
    public RepairMode? Repair { get; init; }

    /// <summary>Tables that were read.</summary>
    public long TablesRead { get; private set; }

    /// <summary>Whether there is something to mend in tables of snapshots.</summary>
    public bool HasSnapshotRepairs { get; private set; }

    /// <summary>Walks one L1 table.</summary>
    /// <param name="l1At">Where it starts.</param>
    /// <param name="entryCount">Entries; judged before.</param>
    /// <param name="what">Its name for messages.</param>
    /// <param name="isActive">It is the disk's own table and not a snapshot's.</param>
    /// <param name="cancellationToken">Stops.</param>
    public async ValueTask CheckAsync(HostOffset l1At, long entryCount, string what, bool isActive, CancellationToken cancellationToken)
    {
        references.Add(l1At.Value, entryCount * L1Entry.Size, Referrer.Structure(what));
        var l1 = ArrayPool<byte>.Shared.Rent(L1ChunkBytes);
        var l2 = ArrayPool<byte>.Shared.Rent(_geometry.ClusterSize);
        try
        {
            for (long first = 0; first < entryCount; first += L1ChunkBytes / L1Entry.Size)
            {
                var count = (int)Math.Min(L1ChunkBytes / L1Entry.Size, entryCount - first);
                var chunk = l1.AsMemory(0, count * L1Entry.Size);
                await ReadAsync(l1At + (first * L1Entry.Size), chunk, cancellationToken).ConfigureAwait(false);
                for (var i = NextUsed(chunk.Span, 0); i < count; i = NextUsed(chunk.Span, i + 1))
                {
                    PrefetchFrom(chunk.Span, i);
                    await CheckL1EntryAsync(EntryAt(chunk.Span, i), first + i, what, isActive, l2.AsMemory(0, _geometry.ClusterSize), cancellationToken)
                        .ConfigureAwait(false);
                }

                if (isActive)
                {
                    progress?.Report((double)(first + count) / entryCount * 0.9);
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(l1);
            ArrayPool<byte>.Shared.Return(l2);
        }
    }

    private async ValueTask CheckL1EntryAsync(
        L1Entry entry, long index, string what, bool isActive, Memory<byte> table, CancellationToken cancellationToken)
    {
        if (entry.ReservedBits != 0)
        {
            tally.Corruption($"entry {index} of {what} is 0x{entry.Value:x16}: reserved bits 0x{entry.ReservedBits:x} are set", Remedies.ReservedBits);
            NoteRepair(isActive);
        }

        if (entry.IsAbsent && Repair == RepairMode.All)
        {
            // Not counted, since it is cleared.
            NoteRepair(isActive);
            tally.Corruption($"entry {index} of {what} is 0x{entry.Value:x16}: it has flags and no table", Remedies.StrayFlags);
            return;
        }

        // An entry that is not empty and has no offset makes the header an L2 table: that counts as a reference, though no reader follows it.
        var at = entry.TableOffset;
        var who = Referrer.Entry(what, index);
        references.Add(at.Value, _geometry.ClusterSize, who);
        if ((at.Value & _geometry.ClusterMask) != 0)
        {
            tally.Corruption($"{who} points to {at}, which is not aligned to a cluster", Remedies.Unaligned, at);
        }

        // Where the refcount of the table itself is not known, nothing is said about the flags in it either.
        var judgesCopied = isActive && !entry.IsAbsent && Repair is null;
        if (judgesCopied)
        {
            var cluster = at.Value >> _geometry.ClusterBits;
            var stored = refcounts.IsBeyondTheEnd(cluster)
                ? await refcounts.GetBeyondTheEndAsync(cluster, cancellationToken).ConfigureAwait(false)
                : refcounts.Stored(cluster);
            JudgeCopied(stored, entry.IsCopied, at, who);
            judgesCopied = stored != StoredRefcount.Unknown;
        }

        if (references.CountOf(at) > (ulong)(MaxWalks + metadata.Snapshots.Count))
        {
            // Each state of the disk may refer to it once. A million entries that name one table would have it walked a million times.
            return;
        }

        TablesRead++;
        _isMendable = (at.Value & _geometry.ClusterMask) == 0;
        await ReadAsync(at, table, cancellationToken).ConfigureAwait(false);
        CheckL2Table(table.Span, index, isActive, judgesCopied);
        foreach (var (cluster, isCopied, l2Entry) in _beyondTheEnd)
        {
            var stored = await refcounts.GetBeyondTheEndAsync(cluster, cancellationToken).ConfigureAwait(false);
            JudgeCopied(stored, isCopied, new(cluster << _geometry.ClusterBits), l2Entry);
        }

        _beyondTheEnd.Clear();
    }

    private void CheckL2Table(ReadOnlySpan<byte> table, long l1Index, bool isActive, bool judgesCopied)
    {
        var words = MemoryMarshal.Cast<byte, ulong>(table);
        _nextContiguous = 0;
        var step = _geometry.L2EntryWords;
        for (var i = 0; i < words.Length;)
        {
            if (words[i] == 0)
            {
                var used = words[i..].IndexOfAnyExcept(0UL);
                if (used < 0)
                {
                    return;
                }

                i += used;
                i -= i & (step - 1);
            }

            if ((judgesCopied || (isActive && Repair is not null)) && TryCountPlain(Swap(words[i])))
            {
                i++;
                continue;
            }

            var entry = new L2Entry(Swap(words[i]));
            var bitmap = new SubclusterBitmap(step == 2 ? Swap(words[i + 1]) : 0);
            var guest = new GuestOffset(unchecked((l1Index << _geometry.GuestBytesPerL2Bits) + ((long)(i / step) << _geometry.ClusterBits)));
            CheckL2Entry(entry, bitmap, guest, isActive, judgesCopied);
            i += step;
        }
    }

    // Nearly every entry of nearly every image: a plain cluster of the file with a refcount of 1 that nothing else has referred to yet, and the
    // COPIED flag that belongs to it. Anything else takes the long way.
    private bool TryCountPlain(ulong word)
    {
        var entry = new L2Entry(word);
        if ((word & _notPlain) != L2Entry.CopiedFlag || entry.Offset.Value == 0
            || refcounts.IsBeyondTheEnd(entry.Offset.Value >> _geometry.ClusterBits)
            || !counts.TryAddFirst(entry.Offset.Value >> _geometry.ClusterBits))
        {
            return false;
        }

        CountAllocated(entry.Offset.Value);
        return true;
    }

    /// <summary>Whether an entry points to where no cluster can be, and nothing of what is there is data.</summary>
    internal static bool CanGiveUpPlace(L2Entry entry, SubclusterBitmap bitmap, Qcow2Geometry geometry) =>
        (entry.Offset.Value & geometry.ClusterMask) != 0 && geometry.Version >= 3
        && (geometry.HasExtendedL2 ? bitmap.Allocated == 0 && bitmap.Zero == uint.MaxValue : entry.IsZero);

    private void CountAllocated(long hostOffset)
    {
        tally.AllocatedClusters++;
        if (_nextContiguous != 0 && hostOffset != _nextContiguous)
        {
            tally.FragmentedClusters++;
        }

        _nextContiguous = hostOffset + _geometry.ClusterSize;
    }

    private void CheckL2Entry(L2Entry entry, SubclusterBitmap bitmap, GuestOffset guest, bool isActive, bool judgesCopied)
    {
        if (entry.IsCompressed)
        {
            CheckCompressed(entry, bitmap, guest, isActive);
            return;
        }

        if (entry.ReservedBits != 0)
        {
            Corrupt(entry, guest, $"reserved bits 0x{entry.ReservedBits:x} are set", Remedies.ReservedBits);
            NoteRepair(isActive);
        }

        // In a data file, COPIED makes offset 0 an allocated cluster; the zero flag goes before that.
        var isAllocated = entry.Offset.Value != 0 || (metadata.HasDataFile && entry.IsCopied && (_geometry.HasExtendedL2 || !entry.IsZero));
        if (!isAllocated)
        {
            if (bitmap.Allocated != 0)
            {
                Corrupt(entry, guest, $"subcluster bitmap 0x{bitmap.Value:x} allocates subclusters of a cluster that is not allocated", Remedies.Undecodable);
            }

            return;
        }

        if (_isMendable && Repair == RepairMode.All && CanGiveUpPlace(entry, bitmap, _geometry))
        {
            Corrupt(entry, guest, "the offset of a cluster of zeros is not aligned to a cluster", Remedies.UnalignedZeroes);
            NoteRepair(isActive);
            return;
        }

        if (_geometry.HasExtendedL2 && bitmap.IsContradictory)
        {
            Corrupt(entry, guest, $"subcluster bitmap 0x{bitmap.Value:x}: a subcluster cannot be both allocated and zero", Remedies.Undecodable);
        }

        if (isActive)
        {
            CountAllocated(entry.Offset.Value);
        }

        if ((entry.Offset.Value & _geometry.ClusterMask) != 0)
        {
            Corrupt(entry, guest, "the offset is not aligned to a cluster", Remedies.Unaligned);
        }

        if (metadata.HasDataFile)
        {
            if (entry.Offset.Value != guest.Value)
            {
                // Not counted, because the peer does not either; reading this cluster is an error with both.
                tally.Note($"L2 entry of guest offset {guest} is 0x{entry.Value:x16}: the offset in a data file must be the guest offset", guest, _geometry.ClusterSize);
            }

            // Clusters of a data file have an implicit refcount of 1.
            if (judgesCopied)
            {
                JudgeCopied(StoredRefcount.One, entry.IsCopied, entry.Offset, Referrer.L2Entry(guest));
            }

            return;
        }

        var who = Referrer.L2Entry(guest);
        references.Add(entry.Offset.Value, _geometry.ClusterSize, who);
        if (judgesCopied)
        {
            CheckCopied(entry.IsCopied, entry.Offset, who);
        }
    }

    private void CheckCompressed(L2Entry entry, SubclusterBitmap bitmap, GuestOffset guest, bool isActive)
    {
        if (entry.IsCopied)
        {
            Corrupt(entry, guest, "COPIED must not be set on a compressed cluster", Remedies.Copied);
            NoteRepair(isActive);
        }

        if (metadata.HasDataFile)
        {
            Corrupt(entry, guest, "compressed clusters cannot be in an image with a data file", Remedies.NoPlaceForCompressed);
            return;
        }

        if (bitmap.Value != 0)
        {
            Corrupt(entry, guest, $"subcluster bitmap 0x{bitmap.Value:x} of a compressed cluster must be 0", Remedies.Undecodable);
            return;
        }

        references.Add(entry.CompressedOffset(_geometry).Value, entry.CompressedLength(_geometry), Referrer.L2Entry(guest));
        if (isActive)
        {
            tally.AllocatedClusters++;
            tally.CompressedClusters++;
            tally.FragmentedClusters++;
        }
    }

    private void CheckCopied(bool isCopied, HostOffset at, in Referrer who)
    {
        var cluster = at.Value >> _geometry.ClusterBits;
        if (refcounts.IsBeyondTheEnd(cluster))
        {
            // Its refcount is not in memory; few entries are like that, and only in broken images.
            _beyondTheEnd.Add((cluster, isCopied, who));
            return;
        }

        JudgeCopied(refcounts.Stored(cluster), isCopied, at, who);
    }

    private void JudgeCopied(StoredRefcount stored, bool isCopied, HostOffset at, in Referrer who)
    {
        if (stored != StoredRefcount.Unknown && (stored == StoredRefcount.One) != isCopied)
        {
            var refcount = stored switch { StoredRefcount.Zero => "0", StoredRefcount.One => "1", _ => "above 1" };
            tally.Corruption(
                $"{who}: COPIED is {(isCopied ? "set" : "not set")}, and the refcount of the cluster at {at} is {refcount}", Remedies.Copied,
                at, who.Guest, who.Guest is null ? 0 : _geometry.ClusterSize);
        }
    }

    private void NoteRepair(bool isActive) => HasSnapshotRepairs |= !isActive;

    private void Corrupt(L2Entry entry, GuestOffset guest, string problem, Remedy remedy) => tally.Corruption(
        $"L2 entry of guest offset {guest} is 0x{entry.Value:x16}: {problem}", remedy, null, guest, _geometry.ClusterSize, _isMendable ? null : false);

    // What lies beyond the end of the file reads as zeros; that the table itself lies there has been reported as a reference.
    private async ValueTask ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var read = await storage.ReadAsync(at, buffer, cancellationToken).ConfigureAwait(false);
        buffer.Span[read..].Clear();
    }

    private void PrefetchFrom(ReadOnlySpan<byte> l1, int index)
    {
        if (index % PrefetchTables == 0)
        {
            for (var i = index; i < Math.Min(index + (2 * PrefetchTables), l1.Length / L1Entry.Size); i++)
            {
                // What was referred to before has been read, or overlaps something that was.
                if (EntryAt(l1, i) is { IsAbsent: false } entry && references.CountOf(entry.TableOffset) == 0)
                {
                    storage.Prefetch(entry.TableOffset, _geometry.ClusterSize);
                }
            }
        }
    }

    private static L1Entry EntryAt(ReadOnlySpan<byte> l1, int index) => new(BinaryPrimitives.ReadUInt64BigEndian(l1[(index * L1Entry.Size)..]));

    private static int NextUsed(ReadOnlySpan<byte> l1, int from)
    {
        var words = MemoryMarshal.Cast<byte, ulong>(l1);
        var used = from < words.Length ? words[from..].IndexOfAnyExcept(0UL) : -1;
        return used < 0 ? words.Length : from + used;
    }

    private static ulong Swap(ulong word) => BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(word) : word;
}
