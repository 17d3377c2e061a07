namespace Platter.TestKit;

/// <summary>Placement: where each part lies, and how many refcount blocks that takes.</summary>
internal sealed partial class Qcow2Writer
{
    private readonly Qcow2Part _header = new(1);
    private readonly SortedDictionary<long, Qcow2Part> _refcountBlocks = [];
    private Qcow2Part? _refcountTable;

    private void PlaceAll()
    {
        var content = _parts.ToArray();
        long blockCount = 1;
        long tableClusters = 1 + builder.SpareRefcountTableClusters;
        while (true)
        {
            var table = new Qcow2Part(tableClusters);
            var blocks = Enumerable.Range(0, (int)blockCount).Select(_ => new Qcow2Part(1)).ToArray();
            var all = Order(content, table, blocks);
            long next = 0;
            foreach (var part in all)
            {
                part.At = next;
                next += part.Clusters * _clusterBytes;
            }

            // A block is needed for every range of clusters that holds something in use; blocks left over cover the ranges that follow.
            var needed = new SortedSet<long>();
            foreach (var part in all.Where(p => !p.IsFree))
            {
                var first = part.At / _clusterBytes / RefcountsInBlock;
                var last = ((part.At / _clusterBytes) + part.Clusters - 1) / RefcountsInBlock;
                for (var index = first; index <= last; index++)
                {
                    needed.Add(index);
                }
            }

            for (var spare = needed.Max + 1; needed.Count < blockCount; spare++)
            {
                needed.Add(spare);
            }

            var tableNeeded = ClustersFor((needed.Max + 1) * 8) + builder.SpareRefcountTableClusters;
            if (needed.Count <= blockCount && tableNeeded <= tableClusters)
            {
                _refcountTable = table;
                var i = 0;
                foreach (var index in needed)
                {
                    _refcountBlocks[index] = blocks[i++];
                }

                _parts.Clear();
                _parts.AddRange(all);
                return;
            }

            blockCount = Math.Max(blockCount, needed.Count);
            tableClusters = Math.Max(tableClusters, tableNeeded);
        }
    }

    private List<Qcow2Part> Order(Qcow2Part[] content, Qcow2Part table, Qcow2Part[] blocks)
    {
        var free = content.Where(p => p.IsFree).ToArray();
        var used = content.Where(p => !p.IsFree).ToArray();
        List<Qcow2Part> rest;
        switch (builder.Layout)
        {
            case Qcow2HostLayout.DataFirst:
                rest = [.. used.Where(p => p.IsData), .. used.Where(p => !p.IsData), .. blocks, table];
                break;
            case Qcow2HostLayout.Shuffled:
                Qcow2Part[] all = [.. used, .. blocks, table];
                new Random(builder.Seed).Shuffle(all);
                rest = [.. all];
                break;
            default:
                rest = [table, .. blocks, .. used];
                break;
        }

        var random = new Random(builder.Seed);
        foreach (var part in free)
        {
            rest.Insert(random.Next(rest.Count + 1), part);
        }

        if (builder.FarGapClusters > 0)
        {
            rest.Insert(rest.Count / 2, new Qcow2Part(builder.FarGapClusters) { IsFree = true });
        }

        return [_header, .. rest];
    }

    private void WriteRefcounts()
    {
        foreach (var (index, block) in _refcountBlocks)
        {
            _bytes.PutU64Be(_refcountTable!.At + (index * 8), (ulong)block.At);
        }

        var width = 1 << builder.RefcountOrder;
        foreach (var (cluster, count) in _refcounts)
        {
            var (index, entry) = Math.DivRem(cluster, RefcountsInBlock);
            var bit = entry * width;
            var at = _refcountBlocks[index].At + (bit / 8);
            if (width >= 8)
            {
                _bytes.PutBigEndian(at, count, width / 8);
            }
            else
            {
                // Entries narrower than a byte start at its least significant bit.
                _bytes.PutU8(at, (byte)(_bytes.U8(at) | (count << (int)(bit % 8))));
            }
        }
    }
}
