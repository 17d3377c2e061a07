using Xunit;

namespace Platter.Tests.Fuzz;

/// <summary>Mutation fuzzing of everything that reads bytes from strangers. See <see cref="Fuzzer"/> for how to replay and how to go on longer.</summary>
public sealed class FuzzTests
{
    private static readonly FuzzTarget[] s_targets = [new Qcow2Target(), new ParallelsTarget()];

    public static TheoryData<string> Targets => [.. s_targets.Select(t => t.Name)];

    public static TheoryData<string, string> Findings
    {
        get
        {
            var result = new TheoryData<string, string>();
            var root = Path.Combine(AppContext.BaseDirectory, "Findings");
            foreach (var target in s_targets.Where(t => Directory.Exists(Path.Combine(root, t.Name))))
            {
                foreach (var file in Directory.EnumerateFiles(Path.Combine(root, target.Name)).Order(StringComparer.Ordinal))
                {
                    result.Add(target.Name, Path.GetFileName(file));
                }
            }

            return result;
        }
    }

    [Theory]
    [MemberData(nameof(Targets))]
    public void Mutated_input_is_read_or_refused_in_one_line(string target) => Fuzzer.Run(Find(target), s_targets.Length);

    [Theory(SkipTestWithoutData = true)]
    [MemberData(nameof(Findings))]
    public void What_once_was_found_stays_fixed(string target, string file) =>
        Fuzzer.RunOne(Find(target), file, File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Findings", target, file)));

    private static FuzzTarget Find(string name) => s_targets.First(t => t.Name == name);
}
