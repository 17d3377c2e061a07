using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Counts what was tried of a scenario; states that differ in nothing count once. Thread-safe but for the setters.</summary>
internal sealed class CrashTally(CrashScenario scenario)
{
    private readonly HashSet<(int Trace, ulong State)> _seen = [];

    public CrashScenario Scenario => scenario;

    public int Traces { get; set; }

    public long Writes { get; set; }

    public long Flushes { get; set; }

    public long States
    {
        get
        {
            lock (_seen)
            {
                return _seen.Count;
            }
        }
    }

    /// <summary>Whether a state was not tried yet: other bytes, or the same ones when more is demanded of them.</summary>
    public bool IsNew(DiskCut cut, CrashRun run, IReadOnlyList<WriteFate> fates, bool olderWins)
    {
        var hash = 14695981039346656037UL;
        void Mix(ulong value) => hash = unchecked((hash ^ value) * 1099511628211UL) ^ (hash >> 29);
        Mix((ulong)cut.DurableCount);
        Mix((ulong)run.Guest.Demands.Count(d => d <= cut.Time));
        Mix(olderWins ? 1UL : 0);
        foreach (var fate in fates)
        {
            if (fate.IsLost)
            {
                continue;
            }

            Mix((ulong)fate.Write.Index);
            Mix((ulong)fate.Write.Begun);
            for (var sector = 0; !fate.IsWhole && sector < fate.Write.SectorCount; sector++)
            {
                Mix(fate.Arrived(sector) ? 3UL : 2);
            }

            Mix(fate.LengthArrived ? 5UL : 4);
        }

        lock (_seen)
        {
            return _seen.Add((Traces, hash));
        }
    }
}
