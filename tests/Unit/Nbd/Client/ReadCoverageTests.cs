using Platter.Nbd.Client;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Client;

public sealed class ReadCoverageTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Coverage_agrees_with_a_plain_array(int seed)
    {
        var random = new Random(seed);
        for (var round = 0; round < 500; round++)
        {
            var length = random.Next(1, 60);
            var model = new bool[length];
            var coverage = new NbdReadCoverage();
            for (var step = 0; step < 200 && !coverage.Covers(length); step++)
            {
                var start = random.Next(length);
                var end = random.Next(start + 1, Math.Min(length, start + 8) + 1);
                var problem = coverage.Add(start, end);
                Assert.True(model.AsSpan()[start..end].Contains(true) == problem is not null, $"seed {seed}, round {round}: {start}..{end} {problem}");
                if (problem is null)
                {
                    model.AsSpan()[start..end].Fill(true);
                }

                Assert.Equal(!model.Contains(false), coverage.Covers(length));
            }
        }
    }
}
