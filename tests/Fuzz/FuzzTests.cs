using Xunit;

namespace Platter.Tests.Fuzz;

/// <summary>Mutation fuzzing of everything that reads bytes from strangers. See <see cref="Fuzzer"/> for how to replay and how to go on longer.</summary>
public sealed class FuzzTests
{
    private static readonly FuzzTarget[] s_targets = 
    [
        new Qcow2Target(), new Qcow2RepairTarget(), new LuksTarget(), new ParallelsTarget(), new ParallelsWriteTarget(), new BundleTarget(), new NamesTarget(), new NbdWireTarget(), new NbdClientTarget(), new NbdTlsTarget(),
    ];

    public static TheoryData<string> Targets => [.. s_targets.Select(t => t.Name)];

    [Theory]
    [MemberData(nameof(Targets))]
    public void Mutated_input_is_read_or_refused_in_one_line(string target) => Fuzzer.Run(Find(target), s_targets.Length);

    [Fact]
    public void What_once_was_found_stays_fixed()
    {
        foreach (var target in s_targets)
        {
            var folder = Path.Combine(AppContext.BaseDirectory, "Findings", target.Name);
            foreach (var file in Directory.Exists(folder) ? Directory.GetFiles(folder) : [])
            {
                Fuzzer.RunOne(target, Path.GetFileName(file), File.ReadAllBytes(file));
            }
        }
    }

    private static FuzzTarget Find(string name) => s_targets.First(t => t.Name == name);
}
