using Xunit;

namespace Platter.Tests.CrashSim;

/// <summary>Power cuts in everything that writes. See <see cref="CrashRunner"/> for how to replay and how to go on longer.</summary>
public sealed class CrashTests
{
    public static TheoryData<string> Scenarios => [.. AllScenarios.List.Select(s => s.Name)];

    [Theory]
    [MemberData(nameof(Scenarios))]
    public Task Whatever_a_power_cut_leaves_keeps_the_promises(string scenario) => CrashRunner.RunAsync(AllScenarios.Find(scenario), AllScenarios.List.Count);
}
