using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Mapping;

/// <summary>Reads runs off a piece of an L2 table: pure lookup, no I/O.</summary>
/// <remarks>A run is as long as the entries of the piece say the same; the loops over standard entries compare one masked word per cluster.</remarks>
internal sealed class L2Scanner
{
    // Of the largest piece: 2048 entries in 16 KiB.
    private const int MaxRuns = 1024;

    private readonly string _file;
    private readonly Qcow2Geometry _geometry;
    private readonly bool _hasDataFile;

    // The bits of a standard entry that tell what it is. COPIED belongs to them only where it makes offset 0 an allocated cluster.
    private readonly ulong _statusMask;

    public L2Scanner(string file, Qcow2Geometry geometry, bool hasDataFile)
    {
        _file = file;
        _geometry = geometry;
        _hasDataFile = hasDataFile;
        _statusMask = L2Entry.OffsetMask | L2Entry.CompressedFlag | (geometry.HasExtendedL2 ? 0 : L2Entry.ZeroFlag)
            | (hasDataFile ? L2Entry.CopiedFlag : 0);
    }

    /// <summary>The run that begins at a guest offset.</summary>
    /// <param name="slice">The piece that holds the entry of <paramref name="at"/>.</param>
    /// <param name="at">Guest offset.</param>
    /// <param name="length">Guest bytes wanted at most.</param>
    /// <returns>A run of at most <paramref name="length"/> bytes that ends with the piece at the latest.</returns>
    public ClusterRun Scan(L2Slice slice, GuestOffset at, long length)
    {
        var index = (int)(at.Value >> _geometry.ClusterBits) & ((1 << _geometry.SliceEntryBits) - 1);
        var inCluster = (int)(at.Value & _geometry.ClusterMask);
        return _geometry.HasExtendedL2
            ? ScanExtended(slice, index, at, inCluster, length)
            : ScanStandard(slice, index, at, inCluster, length);
    }

    /// <summary>Makes the cached form of a piece.</summary>
    /// <param name="index">Its number.</param>
    /// <param name="at">Where it is in the file.</param>
    /// <param name="entries">Its words in host byte order.</param>
    public L2Slice Pack(long index, HostOffset at, ReadOnlySpan<ulong> entries)
    {
        if (_geometry.HasExtendedL2)
        {
            return L2Slice.Create(index, at, entries, []);
        }

        // A run costs 10 bytes, an entry 8; a piece of too many runs is better left alone.
        Span<ushort> starts = stackalloc ushort[MaxRuns];
        var count = 0;
        for (var i = 0; i < entries.Length; i += CountRun(entries[i..]))
        {
            if (count == Math.Min(MaxRuns, entries.Length / 2))
            {
                return L2Slice.Create(index, at, entries, []);
            }

            starts[count++] = (ushort)i;
        }

        return L2Slice.Create(index, at, entries, starts[..count]);
    }

    private ClusterRun ScanStandard(L2Slice slice, int index, GuestOffset at, int inCluster, long length)
    {
        ulong value;
        int count;
        if (slice.IsRuns)
        {
            count = slice.FindRun(index, out value, out var behind);
            if ((value & _statusMask) is var first and not 0 && !IsZeroPlain(first))
            {
                value += (ulong)behind << _geometry.ClusterBits;
            }
        }
        else
        {
            var wanted = ((inCluster + length - 1) >> _geometry.ClusterBits) + 1;
            var entries = slice.Entries[index..];
            entries = entries[..(int)Math.Min(entries.Length, wanted)];
            value = entries[0];
            count = CountRun(entries);
        }

        var entry = new L2Entry(value);
        var status = value & _statusMask;
        if (status == 0)
        {
            return Run(ClusterKind.Unallocated, count, inCluster, length, default);
        }

        if (entry.IsCompressed)
        {
            return Compressed(entry, slice, index, inCluster, length);
        }

        if ((entry.Offset.Value & _geometry.ClusterMask) != 0)
        {
            throw Misaligned(slice, index, entry);
        }

        if (entry.IsZero && _geometry.Version == 2)
        {
            throw Bad(slice, index, entry, "has the zero flag, which version 2 does not know");
        }

        if (IsZeroPlain(status))
        {
            return Run(ClusterKind.ZeroPlain, count, inCluster, length, default);
        }

        if (_hasDataFile && entry.Offset.Value != at.Value - inCluster)
        {
            throw Bad(slice, index, entry, $"must point to its guest offset 0x{at.Value - inCluster:x} in the data file");
        }

        return Run(entry.IsZero ? ClusterKind.ZeroAllocated : ClusterKind.Data, count, inCluster, length, entry.Offset);
    }

    // How many entries from the first on say the same, host offsets going on from each other. What cannot be mapped stands alone.
    private int CountRun(ReadOnlySpan<ulong> entries)
    {
        var first = entries[0] & _statusMask;
        if (first == 0)
        {
            return CountUnallocated(entries);
        }

        if ((first & (L2Entry.CompressedFlag | (L2Entry.OffsetMask & (ulong)_geometry.ClusterMask))) != 0)
        {
            return 1;
        }

        return CountEqual(
            entries, first & ~L2Entry.CopiedFlag, IsZeroPlain(first) ? 0 : (ulong)_geometry.ClusterSize, _statusMask & ~L2Entry.CopiedFlag);
    }

    // In a data file the zero flag decides, whatever COPIED says of offset 0.
    private static bool IsZeroPlain(ulong status) => (status & (L2Entry.OffsetMask | L2Entry.ZeroFlag)) == L2Entry.ZeroFlag;

    private int CountUnallocated(ReadOnlySpan<ulong> entries)
    {
        var count = 0;
        while (count < entries.Length)
        {
            var used = entries[count..].IndexOfAnyExcept(0UL);
            if (used < 0)
            {
                return entries.Length;
            }

            count += used;
            if ((entries[count] & _statusMask) != 0)
            {
                break;
            }

            count++;
        }

        return count;
    }

    private static int CountEqual(ReadOnlySpan<ulong> entries, ulong expected, ulong step, ulong mask)
    {
        var count = 1;
        while (count < entries.Length && (entries[count] & mask) == (expected += step))
        {
            count++;
        }

        return count;
    }

    private ClusterRun ScanExtended(L2Slice slice, int index, GuestOffset at, int inCluster, long length)
    {
        var words = slice.Entries;
        var run = default(ClusterRun);
        for (var entryIndex = index; 2 * entryIndex < words.Length && run.Length < length; entryIndex++)
        {
            var entry = new L2Entry(words[2 * entryIndex]);
            var bitmap = new SubclusterBitmap(words[(2 * entryIndex) + 1]);
            var start = entryIndex == index ? inCluster : 0;
            ClusterRun part;
            try
            {
                part = InCluster(slice, entryIndex, entry, bitmap, at + (run.Length - (entryIndex == index ? inCluster : 0)), start, length - run.Length);
            }
            catch (ImageFormatException) when (run.Length > 0)
            {
                // What comes before a bad entry is good; the error belongs to the request that starts at the entry.
                break;
            }

            if (run.Length > 0 && !run.Continues(part))
            {
                break;
            }

            run = run.Length == 0 ? part : run with { Length = run.Length + part.Length };
            if (start + part.Length < _geometry.ClusterSize)
            {
                break;
            }
        }

        return run;
    }

    private ClusterRun InCluster(
        L2Slice slice, int index, L2Entry entry, SubclusterBitmap bitmap, GuestOffset clusterAt, int inCluster, long length)
    {
        if (entry.IsCompressed)
        {
            return bitmap.Value == 0
                ? Compressed(entry, slice, index, inCluster, length)
                : throw Bad(slice, index, entry, $"is compressed and has the subcluster bitmap 0x{bitmap.Value:x}, which must be 0");
        }

        var isAllocated = (entry.Value & _statusMask) != 0;
        if (isAllocated && (entry.Offset.Value & _geometry.ClusterMask) != 0)
        {
            throw Misaligned(slice, index, entry);
        }

        if (isAllocated && _hasDataFile && entry.Offset.Value != clusterAt.Value)
        {
            throw Bad(slice, index, entry, $"must point to its guest offset {clusterAt} in the data file");
        }

        if (isAllocated ? bitmap.IsContradictory : bitmap.Allocated != 0)
        {
            throw Bad(slice, index, entry, isAllocated
                ? $"has the subcluster bitmap 0x{bitmap.Value:x}: a subcluster cannot be both allocated and zero"
                : $"has no host cluster and the subcluster bitmap 0x{bitmap.Value:x}, which allocates subclusters");
        }

        var subcluster = inCluster / _geometry.SubclusterSize;
        var kind = (bitmap.Allocated >> subcluster & 1) != 0 ? ClusterKind.Data
            : (bitmap.Zero >> subcluster & 1) != 0 ? (isAllocated ? ClusterKind.ZeroAllocated : ClusterKind.ZeroPlain)
            : isAllocated ? ClusterKind.UnallocatedInCluster : ClusterKind.Unallocated;
        var end = (subcluster + bitmap.RunLength(subcluster)) * _geometry.SubclusterSize;
        return new(kind, Math.Min(length, end - inCluster), isAllocated ? entry.Offset + inCluster : default, 0);
    }

    private ClusterRun Compressed(L2Entry entry, L2Slice slice, int index, int inCluster, long length)
    {
        if (_hasDataFile)
        {
            throw Bad(slice, index, entry, "is compressed, which an image with a data file cannot have");
        }

        return new(
            ClusterKind.Compressed, Math.Min(length, _geometry.ClusterSize - inCluster), entry.CompressedOffset(_geometry), entry.CompressedLength(_geometry));
    }

    private ClusterRun Run(ClusterKind kind, int clusters, int inCluster, long length, HostOffset cluster) =>
        new(kind, Math.Min(length, ((long)clusters << _geometry.ClusterBits) - inCluster),
            kind is ClusterKind.Data or ClusterKind.ZeroAllocated ? cluster + inCluster : default, 0);

    private ImageFormatException Misaligned(L2Slice slice, int index, L2Entry entry) =>
        Bad(slice, index, entry, $"points to {entry.Offset}, which is not aligned to a cluster");

    private ImageFormatException Bad(L2Slice slice, int index, L2Entry entry, string problem)
    {
        var guest = (slice.Index << _geometry.GuestBytesPerSliceBits) + ((long)index << _geometry.ClusterBits);
        return new(
            _file, string.Create(CultureInfo.InvariantCulture, $"L2 entry of guest offset 0x{guest:x}"),
            slice.Offset + ((long)index * 8 * _geometry.L2EntryWords), "value", $"0x{entry.Value:x16}", problem);
    }
}
