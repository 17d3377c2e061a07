using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using Platter.Core.Errors;
using Platter.Core.Metadata;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Mapping;

/// <summary>Answers where guest bytes are, for one L1 table.</summary>
/// <remarks>
/// L2 tables are cached in slices under their guest position, so that a hit needs one look-up and no L1 table. The slice used last is
/// remembered beside the cache: sequential requests do not even look up. Nothing is allocated on a hit. Thread-safe.
/// </remarks>
internal sealed class ClusterMapper
{
    // Runs go on across tables as long as those are cheap to come by; this bounds what one request may read.
    private const int MaxSliceLoads = 64;

    private readonly L1Table _l1;
    private readonly TableReader _reader;
    private readonly MetadataCache _cache;
    private readonly Qcow2Geometry _geometry;
    private readonly L2Scanner _scanner;
    private readonly int _owner = MetadataCache.NewOwner();
    private L2Slice? _last;

    public ClusterMapper(L1Table l1, TableReader reader, MetadataCache cache, Qcow2Geometry geometry, bool hasDataFile)
    {
        _l1 = l1;
        _reader = reader;
        _cache = cache;
        _geometry = geometry;
        _scanner = new(reader.FileName, geometry, hasDataFile);
    }

    /// <summary>The run of one kind that begins at a guest offset.</summary>
    /// <param name="at">Inside the disk.</param>
    /// <param name="length">Guest bytes wanted at most; inside the disk.</param>
    /// <param name="cancellationToken">Stops reading tables.</param>
    public ValueTask<ClusterRun> FindAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        var index = at.Value >> _geometry.GuestBytesPerSliceBits;
        var slice = Volatile.Read(ref _last);
        if (slice?.Index != index)
        {
            if (!_cache.TryGet(_owner, index, out slice))
            {
                return LoadAndFindAsync(at, length, cancellationToken);
            }

            Volatile.Write(ref _last, slice);
        }

        var run = _scanner.Scan(slice, at, length);
        return run.Length == length || !EndsSlice(at, run) ? new(run) : ExtendAsync(at, length, run, cancellationToken);
    }

    private async ValueTask<ClusterRun> LoadAndFindAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        var run = await FindInSliceAsync(at, length, cancellationToken).ConfigureAwait(false);
        return run.Length == length || !EndsSlice(at, run)
            ? run
            : await ExtendAsync(at, length, run, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<ClusterRun> ExtendAsync(GuestOffset at, long length, ClusterRun run, CancellationToken cancellationToken)
    {
        if (run.Kind == ClusterKind.Compressed)
        {
            return run;
        }

        for (var loads = 0; run.Length < length && loads < MaxSliceLoads && EndsSlice(at, run); loads++)
        {
            ClusterRun next;
            try
            {
                next = await FindInSliceAsync(at + run.Length, length - run.Length, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException)
            {
                // The request that starts there reports it.
                break;
            }

            if (!run.Continues(next))
            {
                break;
            }

            run = run with { Length = run.Length + next.Length };
        }

        return run;
    }

    private bool EndsSlice(GuestOffset at, in ClusterRun run) =>
        ((at.Value + run.Length) & ((1L << _geometry.GuestBytesPerSliceBits) - 1)) == 0;

    private ValueTask<ClusterRun> FindInSliceAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        var index = at.Value >> _geometry.GuestBytesPerSliceBits;
        return _cache.TryGet(_owner, index, out L2Slice? slice)
            ? new(_scanner.Scan(slice, at, length))
            : LoadSliceAndFindAsync(index, at, length, cancellationToken);
    }

    private async ValueTask<ClusterRun> LoadSliceAndFindAsync(long index, GuestOffset at, long length, CancellationToken cancellationToken)
    {
        var l1Index = at.Value >> _geometry.GuestBytesPerL2Bits;
        var entry = await _l1.GetAsync(l1Index, cancellationToken).ConfigureAwait(false);
        if (entry.IsAbsent)
        {
            var tables = ((at.Value + length - 1) >> _geometry.GuestBytesPerL2Bits) - l1Index + 1;
            var absent = await _l1.CountAbsentAsync(l1Index, tables, cancellationToken).ConfigureAwait(false);

            // Counted from the end: the table's end may lie beyond any offset that a long holds.
            var inTable = at.Value & ((1L << _geometry.GuestBytesPerL2Bits) - 1);
            return new(ClusterKind.Unallocated, absent == tables ? length : (absent << _geometry.GuestBytesPerL2Bits) - inTable, default, 0);
        }

        var table = entry.TableOffset;
        if ((table.Value & _geometry.ClusterMask) != 0)
        {
            throw new ImageFormatException(
                _reader.FileName, string.Create(CultureInfo.InvariantCulture, $"L1 entry {l1Index}"), _l1.Offset + (l1Index * L1Entry.Size),
                "value", $"0x{entry.Value:x16}", $"points to {table}, which is not aligned to a cluster");
        }

        var slicesPerTableBits = _geometry.GuestBytesPerL2Bits - _geometry.GuestBytesPerSliceBits;
        var inTableIndex = index & ((1L << slicesPerTableBits) - 1);
        var sliceAt = table + (inTableIndex * _geometry.SliceBytes);
        var bytes = ArrayPool<byte>.Shared.Rent(_geometry.SliceBytes);
        L2Slice slice;
        try
        {
            await _reader.ReadAsync(sliceAt, bytes.AsMemory(0, _geometry.SliceBytes), "L2 table", l1Index, cancellationToken).ConfigureAwait(false);
            slice = _scanner.Pack(index, sliceAt, ToHostOrder(bytes.AsSpan(0, _geometry.SliceBytes)));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }

        _cache.Add(_owner, index, slice, slice.CostBytes);
        Volatile.Write(ref _last, slice);
        return _scanner.Scan(slice, at, length);
    }

    private static Span<ulong> ToHostOrder(Span<byte> bytes)
    {
        var words = MemoryMarshal.Cast<byte, ulong>(bytes);
        if (BitConverter.IsLittleEndian)
        {
            BinaryPrimitives.ReverseEndianness(words, words);
        }

        return words;
    }
}
