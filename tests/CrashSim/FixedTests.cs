using Xunit;

namespace Platter.Tests.CrashSim;

/// <summary>Seeds that once showed a broken promise.</summary>
public sealed class FixedTests
{
    /// <summary>Scenario, seed, what it was.</summary>
    public static TheoryData<string, int, string> Seeds => new()
    {
        { "growth-lazy", 5, "with lazy refcounts, clusters of a refcount table that had moved in memory only were used for guest data" },
    };

    [Theory]
    [MemberData(nameof(Seeds))]
    public Task What_was_broken_once_stays_whole(string scenario, int seed, string because)
    {
        TestContext.Current.TestOutputHelper?.WriteLine(because);
        return CrashRunner.RunSeedAsync(AllScenarios.Find(scenario), seed, new CrashTally(AllScenarios.Find(scenario)));
    }
}
