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

    /// <summary>The file cut at every length up to a point, inside and around known fields, around ends of sectors, and at random.</summary>
    /// <remarks>A long run has 16 KiB of every length at least, all fields, and each end of a sector up to 1 MiB; a short one has a seeded sample of them.</remarks>
    /// <param name="seed">The whole file.</param>
    /// <param name="everyByteUpTo">The point.</param>
    /// <param name="fields">Fields of headers and tables.</param>
    public static IEnumerable<(string What, FuzzInput Input)> Cuts(FuzzInput seed, long everyByteUpTo, IReadOnlyList<FuzzField>? fields = null)
    {
        const int ShortSectors = 64, ShortFields = 60;
        var length = seed.MainBytes.Length;
        var random = new Random(7);
        var lengths = new SortedSet<long>();
        for (long at = 0; at < Math.Min(length, IsLong ? Math.Max(16 << 10, everyByteUpTo) : everyByteUpTo); at++)
        {
            lengths.Add(at);
        }

        var sectors = Sampled(Enumerable.Range(1, (int)(Math.Min(length - 1, 1 << 20) / 512)).Select(sector => sector * 512L), ShortSectors);
        foreach (var at in sectors)
        {
            lengths.UnionWith([at - 1, at, at + 1]);
        }

        foreach (var field in Sampled(fields ?? [], ShortFields))
        {
            lengths.UnionWith([field.At, field.At + 1, field.At + field.Size - 1, field.At + field.Size]);
        }

        for (var i = 0; i < 50; i++)
        {
            lengths.Add(random.NextInt64(length));
        }

        foreach (var cut in lengths.Where(cut => cut >= 0 && cut < length))
        {
            var input = seed.Clone();
            input.MainBytes.SetLength(cut);
            yield return ($"cut at {cut}", input);
        }

        IEnumerable<T> Sampled<T>(IEnumerable<T> all, int count)
        {
            var array = all.ToArray();
            if (!IsLong && array.Length > count)
            {
                random.Shuffle(array);
                array = array[..count];
            }

            return array;
        }
    }
}
