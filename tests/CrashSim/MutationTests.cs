using Platter.TestKit;
using Xunit;

namespace Platter.Tests.CrashSim;

/// <summary>Does the simulator notice? One flush at a time is taken to have done nothing, as if the code had forgotten it, and a broken promise is looked for.</summary>
/// <remarks>
/// Not every flush can be missed: one that covers refcounts which were lowered saves leaks and no more, and sometimes what a flush keeps apart
/// happens to be harmless together. So a share is demanded; the README says what changes of the source were tried by hand.
/// </remarks>
public sealed class MutationTests
{
    private const int Seeds = 6;

    public static TheoryData<string, int> Traces => new()
    {
        { "few-plain", 60 }, { "few-backing", 60 }, { "few-snapshot", 60 }, { "few-extended", 50 }, { "few-data-file", 60 }, { "snapshots-few-plain", 60 }, { "repair-few-plain", 50 },
    };

    [Theory]
    [MemberData(nameof(Traces))]
    public async Task A_forgotten_flush_breaks_a_promise(string name, int percent)
    {
        var scenario = AllScenarios.Find(name);
        var (tried, noticed) = (0, 0);
        var missed = new List<string>();
        for (var seed = 1; seed <= Seeds; seed++)
        {
            var run = await CrashRun.MakeAsync(scenario, seed);
            foreach (var flush in new CrashTrace(run.Disk).Flushes.Where(f => MayMatter(run, f)))
            {
                tried++;
                var trace = new CrashTrace(run.Disk, without: flush);
                var end = Next(flush)?.Ended ?? long.MaxValue;
                var moments = trace.Epochs.Where(t => t >= flush.Ended && t < end);
                if (await CrashRunner.EnumerateAsync(scenario, run, trace, new CrashTally(scenario), moments) is not null)
                {
                    noticed++;
                }
                else
                {
                    missed.Add($"seed {seed}: {Describe(run, flush)}");
                }
            }
        }

        var summary = $"{name}: {noticed} of {tried} forgotten flushes were noticed";
        TestContext.Current.TestOutputHelper?.WriteLine(summary + "; not these:\n" + string.Join('\n', missed));
        Console.WriteLine($"   {summary}");
        Assert.True(noticed * 100 >= tried * percent, $"{summary}; not these:\n{string.Join('\n', missed)}");
    }

    private static SimulatedFlush? Next(SimulatedFlush flush) => flush.File.Flushes.FirstOrDefault(f => f.Begun > flush.Ended);

    // It covers something, and before the next flush of the file something else is written or promised.
    private static bool MayMatter(CrashRun run, SimulatedFlush flush)
    {
        var end = Next(flush)?.Begun ?? long.MaxValue;
        return Covered(flush).Any() && (run.Guest.Demands.Any(d => d > flush.Ended && d < end)
            || run.Disk.Files.SelectMany(f => f.Writes).Any(w => w.Begun > flush.Ended && w.Begun < end));
    }

    private static IEnumerable<SimulatedWrite> Covered(SimulatedFlush flush)
    {
        var before = flush.File.Flushes.LastOrDefault(f => f.Ended < flush.Begun)?.Begun ?? 0;
        return flush.File.Writes.Where(w => w.Completed > before && w.Completed < flush.Begun);
    }

    private static string Describe(CrashRun run, SimulatedFlush flush)
    {
        var end = Next(flush)?.Begun ?? long.MaxValue;
        var later = flush.File.Writes.Where(w => w.Begun > flush.Ended && w.Begun < end);
        return $"{flush.File.Name} at {flush.Begun} of {run.Disk.Now}: [{string.Join("; ", Covered(flush))}] before [{string.Join("; ", later)}]";
    }
}
