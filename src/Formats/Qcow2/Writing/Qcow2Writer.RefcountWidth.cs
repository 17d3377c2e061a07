using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Writing;

// Refcounts of another width: all of them are written anew behind the end of the file, and one write of the header, which has their place and their width
// in one sector, makes them the current ones. The old ones are free afterwards. A cut before leaves bytes behind the end that nobody points to.
internal sealed partial class Qcow2Writer
{
    private async ValueTask ChangeRefcountWidthAsync(int order, CancellationToken cancellationToken)
    {
        await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        await CheckpointAsync(cancellationToken, final: true).ConfigureAwait(false);
        await _checkpointing.WaitAsync(cancellationToken).ConfigureAwait(false);
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _checkpoint.ThrowIfBroken();
            await _allocator.ThrowIfUnsoundAsync().ConfigureAwait(false);
            await _refcounts.LoadAllAsync(cancellationToken).ConfigureAwait(false);
            var (blocks, table, place) = RefcountsOf(order, cancellationToken);
            var lengthBefore = _storage.Length;
            try
            {
                foreach (var (at, bytes) in blocks)
                {
                    await _storage.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
                }

                await _storage.WriteAsync(place, table, cancellationToken).ConfigureAwait(false);
            }
            catch
            {
                await CutToAsync(lengthBefore).ConfigureAwait(false);
                throw;
            }

            await _storage.FlushAsync(cancellationToken).ConfigureAwait(false);
            _header.Set64(Qcow2Header.RefcountTableOffsetAt, (ulong)place.Value);
            _header.Set32(Qcow2Header.RefcountTableClustersAt, (uint)(table.Length >> _geometry.ClusterBits));
            _header.Set32(Qcow2Header.RefcountOrderAt, (uint)order);
            _checkpoint.GiveUp(ToReopen());
            await _header.WriteAsync(CancellationToken.None).ConfigureAwait(false);
            await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        }
        finally
        {
            _refcounts.UnpinAll();
            _changing.Release();
            _checkpointing.Release();
        }
    }

    // Blocks and table one after the other from the end of the file on; they count themselves.
    private (List<(HostOffset At, byte[] Bytes)> Blocks, byte[] Table, HostOffset Place) RefcountsOf(int order, CancellationToken cancellationToken)
    {
        var geometry = new Qcow2Geometry(_geometry.ClusterBits, order, _geometry.HasExtendedL2, _geometry.Version);
        var (bits, mask) = (geometry.RefcountBlockEntryBits, (1 << geometry.RefcountBlockEntryBits) - 1);
        var blocks = new SortedDictionary<long, byte[]>();
        var end = _storage.HasFixedLength ? _allocator.End : Math.Max(_allocator.End, Sizes.DivideRoundingUp(_storage.Length, _geometry.ClusterSize));
        var old = new HashSet<long>(_refcounts.BlockClusters);
        var (oldTable, oldTableClusters) = (_refcounts.TableOffset.Value >> _geometry.ClusterBits, _refcounts.TableClusters);
        var oldBits = _geometry.RefcountBlockEntryBits;
        for (long index = 0; index < _refcounts.TableLength; index++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (!_refcounts.HasBlock(index << oldBits))
            {
                continue;
            }

            for (var cluster = index << oldBits; cluster < (index + 1) << oldBits; cluster++)
            {
                var refcount = _refcounts.GetNow(cluster);
                if (refcount == 0 || (refcount == 1 && (old.Contains(cluster) || (cluster >= oldTable && cluster < oldTable + oldTableClusters))))
                {
                    continue;
                }

                if (refcount > RefcountBlock.Max(order))
                {
                    throw new BlockException(
                        BlockErrorKind.InvalidRequest,
                        $"Cannot decrease refcount entry width to {1 << order} bits: Cluster at offset {(cluster << _geometry.ClusterBits).ToString(CultureInfo.InvariantCulture)} has a refcount of {refcount}");
                }

                end = Math.Max(end, cluster + 1);
                RefcountBlock.Set(BlockOf(cluster), (int)(cluster & mask), order, refcount);
            }
        }

        long tableClusters = 0;
        for (long counted = 0; ;)
        {
            var last = blocks.Count == 0 ? 0 : blocks.Keys.Last();
            tableClusters = Sizes.DivideRoundingUp((last + 1) * RefcountTableEntry.Size, _geometry.ClusterSize);
            var needed = blocks.Count + tableClusters;
            if (needed == counted)
            {
                break;
            }

            for (; counted < needed; counted++)
            {
                RefcountBlock.Set(BlockOf(end + counted), (int)((end + counted) & mask), order, 1);
            }
        }

        if (tableClusters << _geometry.ClusterBits > Qcow2Header.MaxRefcountTableBytes)
        {
            throw new BlockException(
                BlockErrorKind.LimitExceeded, $"{_storage.Name}: with refcounts of {1 << order} bits the refcount table would be larger than {Qcow2Header.MaxRefcountTableBytes >> 20} MiB");
        }

        var table = new ulong[(tableClusters << _geometry.ClusterBits) / RefcountTableEntry.Size];
        var result = new List<(HostOffset At, byte[] Bytes)>();
        foreach (var (index, bytes) in blocks)
        {
            var at = new HostOffset((end + result.Count) << _geometry.ClusterBits);
            table[index] = (ulong)at.Value;
            result.Add((at, bytes));
        }

        return (result, ShadowState.Bytes(table), new((end + result.Count) << _geometry.ClusterBits));

        byte[] BlockOf(long cluster)
        {
            var index = cluster >> bits;
            if (!blocks.TryGetValue(index, out var block))
            {
                blocks.Add(index, block = new byte[_geometry.ClusterSize]);
            }

            return block;
        }
    }
}
