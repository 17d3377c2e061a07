namespace Platter.TestKit;

/// <summary>Chooses the fates of the changes that a cut leaves open: all of them where that is possible, else those that are likely to show something, or at random.</summary>
public static class CutPlans
{
    private const int MaxSubsetWrites = 9;

    /// <summary>Every subset of sectors if there are not more than <paramref name="bound"/>; else every subset of changes (or, of very many changes, each alone and
    /// all but each), and each change torn at every place with the others there, not there, or only those before it there.</summary>
    /// <param name="cut">Where the power is cut.</param>
    /// <param name="bound">At most so many.</param>
    public static IEnumerable<WriteFate[]> Enumerate(DiskCut cut, int bound) =>
        cut.PendingSectors < 31 && 1 << cut.PendingSectors <= bound ? AllSectors(cut) : Subsets(cut).Concat(Tears(cut)).Take(bound);

    /// <summary>One way, at random, by one of the habits of disks.</summary>
    public static WriteFate[] Sample(DiskCut cut, Random random)
    {
        var pending = cut.Pending;
        if (pending.Count == 0)
        {
            return [];
        }

        var chosen = random.Next(pending.Count);
        switch (random.Next(9))
        {
            case 0:
                return Choose(pending, (_, _) => random.Next(2) == 0);
            case 1:
                return Choose(pending, (i, _) => i != chosen);
            case 2:
                return Choose(pending, (i, _) => i == chosen);
            case 3:
                return Replace(Choose(pending, (i, _) => i < chosen), chosen, TornAtRandom(pending[chosen], random));
            case 4:
                return Replace(Choose(pending, (_, _) => random.Next(2) == 0), chosen, TornAtRandom(pending[chosen], random));
            case 5:
                var other = random.Next(pending.Count);
                return Choose(pending, (i, _) => i != chosen && i != other);
            case 6:
                // A disk that was busy elsewhere: what lies in one region arrived.
                var pivot = pending[chosen].At;
                var above = random.Next(2) == 0;
                return Choose(pending, (_, w) => w.At < pivot ^ above);
            case 7:
                var last = random.Next(pending.Count);
                return Choose(pending, (i, _) => i >= last);
            default:
                var chance = random.NextDouble();
                return [.. pending.Select(w => w.SetsLength
                    ? random.NextDouble() < chance ? WriteFate.Whole(w) : WriteFate.Lost(w)
                    : WriteFate.Torn(w, _ => random.NextDouble() < chance, random.Next(2) == 0))];
        }
    }

    private static IEnumerable<WriteFate[]> AllSectors(DiskCut cut)
    {
        for (var bits = 0; bits < 1 << cut.PendingSectors; bits++)
        {
            var fates = new WriteFate[cut.Pending.Count];
            var next = 0;
            for (var i = 0; i < fates.Length; i++)
            {
                var write = cut.Pending[i];
                var (from, count) = (next, Math.Max(1, write.SectorCount));
                var own = (bits >> from) & ((1 << count) - 1);
                fates[i] = own == (1 << count) - 1 ? WriteFate.Whole(write) : own == 0 ? WriteFate.Lost(write)
                    : WriteFate.Torn(write, sector => (own >> sector & 1) != 0, lengthArrived: false);
                next += count;
            }

            yield return fates;
        }
    }

    private static IEnumerable<WriteFate[]> Subsets(DiskCut cut)
    {
        var pending = cut.Pending;
        if (pending.Count <= MaxSubsetWrites)
        {
            for (var bits = 0; bits < 1 << pending.Count; bits++)
            {
                var chosen = bits;
                yield return Choose(pending, (i, _) => (chosen >> i & 1) != 0);
            }

            yield break;
        }

        for (var i = 0; i <= pending.Count; i++)
        {
            var at = i;
            yield return Choose(pending, (k, _) => k < at);
            yield return Choose(pending, (k, _) => k >= at);
            yield return Choose(pending, (k, _) => k == at);
            yield return Choose(pending, (k, _) => k != at);
        }
    }

    private static IEnumerable<WriteFate[]> Tears(DiskCut cut)
    {
        var pending = cut.Pending;
        for (var i = 0; i < pending.Count; i++)
        {
            var at = i;
            foreach (var others in new Func<int, SimulatedWrite, bool>[] { (_, _) => true, (_, _) => false, (k, _) => k < at })
            {
                foreach (var torn in TornEverywhere(pending[i]))
                {
                    yield return Replace(Choose(pending, others), i, torn);
                }
            }
        }
    }

    private static IEnumerable<WriteFate> TornEverywhere(SimulatedWrite write)
    {
        if (write.SetsLength)
        {
            yield break;
        }

        // The file grew, and the bytes did not come.
        yield return WriteFate.Torn(write, _ => false, lengthArrived: true);
        var step = Math.Max(1, write.SectorCount / 8);
        for (var sector = 0; sector < write.SectorCount && write.SectorCount > 1; sector += step)
        {
            var at = sector;
            yield return WriteFate.Torn(write, s => s == at, lengthArrived: false);
            yield return WriteFate.Torn(write, s => s != at, lengthArrived: true);
            yield return WriteFate.Torn(write, s => s <= at, lengthArrived: false);
            yield return WriteFate.Torn(write, s => s > at, lengthArrived: true);
        }
    }

    private static WriteFate TornAtRandom(SimulatedWrite write, Random random)
    {
        if (write.SetsLength)
        {
            return random.Next(2) == 0 ? WriteFate.Whole(write) : WriteFate.Lost(write);
        }

        var at = random.Next(Math.Max(1, write.SectorCount));
        var length = random.Next(2) == 0;
        return random.Next(4) switch
        {
            0 => WriteFate.Torn(write, s => s < at, length),
            1 => WriteFate.Torn(write, s => s >= at, length),
            2 => WriteFate.Torn(write, s => s == at, length),
            _ => WriteFate.Torn(write, _ => random.Next(2) == 0, length),
        };
    }

    private static WriteFate[] Choose(IReadOnlyList<SimulatedWrite> pending, Func<int, SimulatedWrite, bool> arrived)
    {
        var fates = new WriteFate[pending.Count];
        for (var i = 0; i < fates.Length; i++)
        {
            fates[i] = arrived(i, pending[i]) ? WriteFate.Whole(pending[i]) : WriteFate.Lost(pending[i]);
        }

        return fates;
    }

    private static WriteFate[] Replace(WriteFate[] fates, int at, WriteFate fate)
    {
        fates[at] = fate;
        return fates;
    }
}
