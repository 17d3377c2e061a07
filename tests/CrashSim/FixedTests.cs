using Xunit;

namespace Platter.Tests.CrashSim;

/// <summary>Seeds that once showed a broken promise.</summary>
public sealed class FixedTests
{
    /// <summary>Scenario, seed, what it was.</summary>
    public static TheoryData<string, int, string> Seeds => new()
    {
        { "growth-lazy", 5, "with lazy refcounts, clusters of a refcount table that had moved in memory only were used for guest data" },
        { "resize-preallocated-data-file", 931859645, "a disk that had been shrunk and grew again, with metadata preallocated, showed what its data file had behind its end" },
        { "resize-preallocated-data-file-raw", 931859645, "the same, where the data file is the disk: there all that grows is preallocated" },
    };

    [Theory]
    [MemberData(nameof(Seeds))]
    public Task What_was_broken_once_stays_whole(string scenario, int seed, string because)
    {
        TestContext.Current.TestOutputHelper?.WriteLine(because);
        return CrashRunner.RunSeedAsync(AllScenarios.Find(scenario), seed, new CrashTally(AllScenarios.Find(scenario)));
    }
}
