using System.Diagnostics;
using System.Globalization;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.CrashSim;

/// <summary>Runs scenarios, cuts the power, and has every state verified; says how to see a failure again.</summary>
/// <remarks>
/// The bounded run takes the same seeds each time. <c>PLATTER_CRASH_MINUTES=N</c> goes on with fresh ones, N minutes shared by all scenarios.
/// <c>PLATTER_CRASH_SEED=SCENARIO:SEED</c> runs one seed of one scenario.
/// </remarks>
internal static class CrashRunner
{
    /// <summary>A scenario's share of a run.</summary>
    public static async Task RunAsync(CrashScenario scenario, int scenarios)
    {
        var (first, last) = (1, scenario.BoundedSeeds);
        var until = TimeSpan.Zero;
        if (Environment.GetEnvironmentVariable("PLATTER_CRASH_SEED") is { Length: > 0 } replay)
        {
            var parts = replay.Split(':');
            Assert.SkipUnless(parts[0] == scenario.Name, $"only {replay} is replayed");
            first = last = int.Parse(parts[1], CultureInfo.InvariantCulture);
        }
        else if (double.TryParse(
            Environment.GetEnvironmentVariable("PLATTER_CRASH_MINUTES"), NumberStyles.Float, CultureInfo.InvariantCulture, out var minutes) && minutes > 0)
        {
            until = TimeSpan.FromMinutes(minutes / scenarios);
        }

        var watch = Stopwatch.StartNew();
        var tally = new CrashTally(scenario);
        for (var seed = first; seed <= last; seed++)
        {
            await RunSeedAsync(scenario, seed, tally);
        }

        // Fresh seeds, told apart from the bounded ones by being large.
        for (var seed = (int)(DateTime.UtcNow.Ticks / 10_000_000 % 1_000_000_000) + 1_000_000; watch.Elapsed < until; seed++)
        {
            await RunSeedAsync(scenario, seed, tally);
        }

        CrashReport.Add(tally, watch.Elapsed);
    }

    /// <summary>One seed of a scenario: what it does once, and all or some of the states that a cut can leave.</summary>
    public static async Task RunSeedAsync(CrashScenario scenario, int seed, CrashTally tally)
    {
        CrashRun run;
        try
        {
            run = await CrashRun.MakeAsync(scenario, seed);
        }
        catch (Exception e)
        {
            throw Failure(scenario, seed, "without any power cut", e, null);
        }

        var trace = new CrashTrace(run.Disk);
        tally.Traces++;
        tally.Writes += trace.WriteCount;
        tally.Flushes += trace.Flushes.Count;
        var failure = scenario.IsExhaustive
            ? await EnumerateAsync(scenario, run, trace, tally)
            : await SampleAsync(scenario, run, trace, seed, tally);
        if (failure is { } broken)
        {
            throw Failure(scenario, seed, broken.State.Describe(), broken.Problem, run);
        }
    }

    /// <summary>Verifies every state of a trace, up to the scenario's bound at each flush (or at other moments).</summary>
    /// <returns>Null, or the first state that breaks a promise.</returns>
    public static async Task<CrashFailure?> EnumerateAsync(
        CrashScenario scenario, CrashRun run, CrashTrace trace, CrashTally tally, IEnumerable<long>? moments = null)
    {
        foreach (var time in moments ?? trace.Epochs)
        {
            var cut = trace.CutAt(time);
            var number = 0;
            foreach (var fates in CutPlans.Enumerate(cut, scenario.ExhaustiveBound))
            {
                if (tally.IsNew(cut, run, fates, olderWins: false)
                    && await ProblemAsync(scenario, run, cut.Build(fates), new Random(number++)) is { } found)
                {
                    return found;
                }
            }

            if (cut.CanReorder && cut.Pending.Count > 1)
            {
                var fates = cut.Pending.Select(WriteFate.Whole).ToArray();
                if (tally.IsNew(cut, run, fates, olderWins: true)
                    && await ProblemAsync(scenario, run, cut.Build(fates, olderWins: true), new Random(number)) is { } found)
                {
                    return found;
                }
            }
        }

        return null;
    }

    /// <summary>Verifies some states of a trace, chosen by a seed.</summary>
    /// <returns>Null, or the first state that breaks a promise.</returns>
    public static async Task<CrashFailure?> SampleAsync(
        CrashScenario scenario, CrashRun run, CrashTrace trace, int seed, CrashTally tally)
    {
        var moments = trace.Epochs;
        CrashFailure? failure = null;
        await Parallel.ForAsync(0, scenario.SampledStates, new ParallelOptions { MaxDegreeOfParallelism = 2 }, async (i, _) =>
        {
            if (Volatile.Read(ref failure) is not null)
            {
                return;
            }

            var random = new Random(HashOf(seed, i));
            var time = random.Next(3) > 0 ? moments[random.Next(moments.Count)] : random.NextInt64(trace.End + 1);
            var cut = trace.CutAt(time);
            var fates = CutPlans.Sample(cut, random);
            var olderWins = random.Next(10) == 0;
            if (tally.IsNew(cut, run, fates, olderWins) && await ProblemAsync(scenario, run, cut.Build(fates, olderWins), random) is { } found)
            {
                Interlocked.CompareExchange(ref failure, found, null);
            }
        });
        return failure;
    }

    private static async Task<CrashFailure?> ProblemAsync(CrashScenario scenario, CrashRun run, CrashState state, Random random)
    {
        try
        {
            await scenario.VerifyAsync(new CrashVerifier(run, state, random));
            return null;
        }
        catch (Exception e)
        {
            return new(state, e);
        }
    }

    private static int HashOf(int seed, int number) => unchecked((seed * 0x2545F491) ^ (number * (int)0x9E3779B1));

    private static Exception Failure(CrashScenario scenario, int seed, string state, Exception problem, CrashRun? run)
    {
        var text = problem is CrashViolation ? problem.Message : problem.ToString();
        var slow = scenario.IsSlow ? " (requests of several threads: another run may differ)" : string.Empty;
        return new CrashViolation($"PLATTER_CRASH_SEED={scenario.Name}:{seed}{slow}\n{text}\n{state}{(run is null ? string.Empty : $"\nof {run.Disk.Now} events")}");
    }
}

/// <summary>A state that breaks a promise, and which.</summary>
internal sealed record CrashFailure(CrashState State, Exception Problem);
