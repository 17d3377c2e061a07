using Xunit;

namespace Platter.Tests.Fuzz;

/// <summary>Feeds inputs that are not random to a workout and collects what went wrong, all of it.</summary>
internal static class Sweep
{
    private const int MaxShown = 10;

    // In sum over half a dozen openings, and what the tests themselves write down.
    private const long MaxAllocatedBytes = 256L << 20;

    /// <summary>Whether there is time for everything: <c>PLATTER_FUZZ_MINUTES</c> asks for a long run.</summary>
    public static bool IsLong => Environment.GetEnvironmentVariable("PLATTER_FUZZ_MINUTES") is { Length: > 0 } minutes && minutes != "0";

    public static async Task RunAsync(IEnumerable<(string What, FuzzInput Input)> cases, string? format)
    {
        var failures = new List<string>();
        var count = 0;
        foreach (var (what, input) in cases)
        {
            count++;
            using var watchdog = new CancellationTokenSource(TimeSpan.FromSeconds(60));
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                await new Workout(input, new Random(count), watchdog.Token, maxExtents: 12).RunAsync(format);
                if (GC.GetAllocatedBytesForCurrentThread() - before is var allocated and > MaxAllocatedBytes)
                {
                    failures.Add($"{what}: {allocated >> 20} MiB were allocated");
                }
            }
            catch (Exception e)
            {
                failures.Add($"{what}: {(e is FuzzException ? e.Message : e)}");
            }
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{count} cases");
        Assert.True(failures.Count == 0, $"{failures.Count} of {count} cases failed\n{string.Join("\n", failures.Take(MaxShown))}");
        Assert.NotEqual(0, count);
    }

    /// <summary>Every field at every extreme, one at a time.</summary>
    public static IEnumerable<(string What, FuzzInput Input)> Fields(FuzzInput seed, IReadOnlyList<FuzzField> fields, Action<FuzzInput>? repair = null)
    {
        foreach (var field in fields)
        {
            foreach (var value in field.Extremes(seed.MainBytes))
            {
                var input = seed.Clone();
                field.Set(input.MainBytes, value);
                repair?.Invoke(input);
                yield return ($"{field} = 0x{value:x}", input);
            }
        }
    }

    /// <summary>The file cut at every length up to a point, then around each sector's end up to 1 MiB, then at random. In a long
    /// run the point is 16 KiB at least.</summary>
    /// <param name="seed">The whole file.</param>
    /// <param name="everyByteUpTo">The point.</param>
    public static IEnumerable<(string What, FuzzInput Input)> Cuts(FuzzInput seed, long everyByteUpTo)
    {
        var length = seed.MainBytes.Length;
        var random = new Random(7);
        var lengths = new SortedSet<long>();
        for (long at = 0; at < Math.Min(length, IsLong ? Math.Max(16 << 10, everyByteUpTo) : everyByteUpTo); at++)
        {
            lengths.Add(at);
        }

        for (long at = 512; at < length && at < 1 << 20; at += 512)
        {
            lengths.UnionWith([at - 1, at, at + 1]);
        }

        for (var i = 0; i < 50; i++)
        {
            lengths.Add(random.NextInt64(length));
        }

        foreach (var cut in lengths)
        {
            var files = seed.Files.ToDictionary();
            files[seed.Main] = seed.MainBytes.Clone();
            files[seed.Main].SetLength(cut);
            yield return ($"cut at {cut}", new FuzzInput(seed.Main, files) { OpenName = seed.OpenName });
        }
    }
}
