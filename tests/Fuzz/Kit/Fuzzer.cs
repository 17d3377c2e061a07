using System.Diagnostics;
using System.Globalization;
using Platter.Core.Errors;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Fuzz;

/// <summary>Runs seeded cases of a target one after the other, under a watchdog, and says how to see a failure again.</summary>
/// <remarks>
/// A case follows from its seed alone. The bounded run uses the same seeds each time; <c>PLATTER_FUZZ_MINUTES=N</c> goes on with fresh ones, N
/// minutes shared by all targets, or those of <c>PLATTER_FUZZ_TARGETS=TARGET,TARGET</c>. <c>PLATTER_FUZZ_SEED=TARGET:SEED</c> runs one case, <c>PLATTER_FUZZ_SAVE=FOLDER</c> keeps the input of a
/// failing one, and of one that is replayed. A failing input belongs into <c>Findings/TARGET</c>, where it is run first for ever.
/// </remarks>
internal static class Fuzzer
{
    /// <summary>Generous: a case takes a millisecond, and the machine may be busy. Only what never ends reaches it.</summary>
    private static readonly TimeSpan s_watchdog = TimeSpan.FromSeconds(60);

    public static void Run(FuzzTarget target, int targets)
    {
        Assert.SkipWhen(target.Missing is not null, target.Missing ?? string.Empty);
        if (Environment.GetEnvironmentVariable("PLATTER_FUZZ_TARGETS") is { Length: > 0 } wanted)
        {
            Assert.SkipUnless(wanted.Split(',').Contains(target.Name), $"only {wanted} is wanted");
            targets = wanted.Split(',').Length;
        }

        var (first, last) = (0L, (long)target.BoundedCases);
        var until = TimeSpan.Zero;
        if (Environment.GetEnvironmentVariable("PLATTER_FUZZ_SEED") is { Length: > 0 } replay)
        {
            var parts = replay.Split(':');
            Assert.SkipUnless(parts[0] == target.Name, $"only {replay} is replayed");
            first = long.Parse(parts[1], CultureInfo.InvariantCulture);
            last = first + 1;
        }
        else if (double.TryParse(
            Environment.GetEnvironmentVariable("PLATTER_FUZZ_MINUTES"), NumberStyles.Float, CultureInfo.InvariantCulture, out var minutes) && minutes > 0)
        {
            until = TimeSpan.FromMinutes(minutes / targets);
        }

        using var run = new FuzzThread(target);
        run.Do(first, last, until);
        TestContext.Current.TestOutputHelper?.WriteLine(run.Summary);
        if (until > TimeSpan.Zero || Environment.GetEnvironmentVariable("PLATTER_FUZZ_VERBOSE") is { Length: > 0 })
        {
            Console.WriteLine(run.Summary);
        }
    }

    /// <summary>Runs one input outside any loop: a committed finding.</summary>
    public static void RunOne(FuzzTarget target, string name, byte[] bytes)
    {
        using var run = new FuzzThread(target);
        run.DoOne(name, target.FromFinding(bytes));
    }

    /// <summary>A thread of its own, so that a case that never ends does not take the test runner with it.</summary>
    private sealed class FuzzThread(FuzzTarget target) : IDisposable
    {
        private readonly CancellationTokenSource _stop = new();
        private long _caseStarted = long.MaxValue;
        private string _case = string.Empty;
        private Exception? _failure;
        private long _done;
        private long _mostAllocated;
        private TimeSpan _elapsed;
        private (long Allowed, long Refused) _counts;

        public string Summary => string.Create(
            CultureInfo.InvariantCulture,
            $"{target.Name}: {_done} cases in {_elapsed.TotalSeconds:f1} s, {_done / Math.Max(0.001, _elapsed.TotalSeconds):f0} per second, at most {_mostAllocated >> 10} KiB allocated by one; {_counts.Allowed} requests succeeded, {_counts.Refused} were refused");

        public void Do(long first, long last, TimeSpan until) => Watch(() =>
        {
            var watch = Stopwatch.StartNew();
            Oracle.StartCounting();
            for (var seed = first; seed < last; seed++)
            {
                One(seed);
            }

            // Fresh seeds, told apart from the bounded ones by being large.
            var start = DateTime.UtcNow.Ticks & 0x7fff_ffff_0000;
            for (var seed = start; watch.Elapsed < until; seed++)
            {
                One(seed);
            }

            _elapsed = watch.Elapsed;
            _counts = Oracle.Counts;
        });

        public void DoOne(string name, FuzzInput input) => Watch(() => Swallow($"finding {name}", input, new Random(0)));

        public void Dispose() => _stop.Dispose();

        private void One(long seed)
        {
            var random = new Random(unchecked((int)(seed ^ (seed >> 32))));
            var name = $"PLATTER_FUZZ_SEED={target.Name}:{seed}";

            // Making the input is not watched: the first one builds the corpus, with other people's tools.
            Volatile.Write(ref _caseStarted, long.MaxValue);
            var input = target.Make(random);
            if (Environment.GetEnvironmentVariable("PLATTER_FUZZ_SEED") is { Length: > 0 })
            {
                Save(name, input);
            }

            Swallow(name, input, random);
            _done++;
        }

        private void Swallow(string name, FuzzInput input, Random random)
        {
            _case = name;
            Volatile.Write(ref _caseStarted, Stopwatch.GetTimestamp());
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                target.SwallowAsync(input, random, _stop.Token).AsTask().GetAwaiter().GetResult();
                var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
                _mostAllocated = Math.Max(_mostAllocated, allocated);
                if (allocated > target.MaxAllocatedBytes)
                {
                    throw new FuzzException($"allocated {allocated >> 20} MiB, the bound is {target.MaxAllocatedBytes >> 20} MiB");
                }
            }
            catch (Exception e)
            {
                Save(name, input);
                throw new FuzzException($"{name}\n{Describe(e)}", e);
            }
        }

        private void Watch(Action work)
        {
            var thread = new Thread(() =>
            {
                try
                {
                    work();
                }
                catch (Exception e)
                {
                    _failure = e;
                }
            })
            {
                IsBackground = true,
                Name = $"fuzz {target.Name}",
            };
            thread.Start();
            while (!thread.Join(250))
            {
                var started = Volatile.Read(ref _caseStarted);
                if (started != long.MaxValue && Stopwatch.GetElapsedTime(started) > s_watchdog)
                {
                    _stop.Cancel();
                    Assert.Fail($"{_case}: was still running after {s_watchdog.TotalSeconds} s");
                }
            }

            if (_failure is not null)
            {
                Assert.Fail(_failure.Message);
            }
        }

        // A trace only where it is not ours: what the oracle says stands for itself.
        private static string Describe(Exception e) => e is FuzzException ? e.Message : e.ToString();

        private static void Save(string name, FuzzInput input)
        {
            if (Environment.GetEnvironmentVariable("PLATTER_FUZZ_SAVE") is { Length: > 0 } folder)
            {
                var prefix = Path.Combine(folder, name.Replace("PLATTER_FUZZ_SEED=", string.Empty, StringComparison.Ordinal).Replace(':', '-').Replace(' ', '-'));
                foreach (var (file, bytes) in input.Files)
                {
                    if (bytes.Length < 64 << 20)
                    {
                        Directory.CreateDirectory(folder);
                        bytes.SaveTo($"{prefix}-{Path.GetFileName(file)}");
                    }
                }
            }
        }
    }
}
