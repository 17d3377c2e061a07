using Platter.Operations.Copy;
using Xunit;

namespace Platter.Tests.Unit.Operations;

public sealed class ZeroRunsTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Runs_cover_the_buffer_and_say_the_truth(int seed)
    {
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        var random = new Random(seed);
        for (var round = 0; round < 300; round++)
        {
            var bytes = new byte[random.Next(1, 40_000)];
            for (var i = random.Next(0, 6); i > 0; i--)
            {
                var at = random.Next(bytes.Length);
                random.NextBytes(bytes.AsSpan(at, Math.Min(random.Next(1, 9000), bytes.Length - at)));
            }

            const int Granularity = 4096;
            var position = (long)random.Next(0, 20_000);
            var previous = (bool?)null;
            for (var from = 0; from < bytes.Length;)
            {
                var (length, isZero) = ZeroRuns.Next(bytes.AsSpan(from), position + from, Granularity);
                Assert.InRange(length, 1, bytes.Length - from);
                Assert.True(from + length == bytes.Length || (position + from + length) % Granularity == 0);
                Assert.Equal(!isZero, previous ?? !isZero);
                if (isZero)
                {
                    Assert.True(ZeroRuns.IsZero(bytes.AsSpan(from, length)));
                }

                previous = isZero;
                from += length;
            }
        }
    }
}
