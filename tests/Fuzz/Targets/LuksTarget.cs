using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Encrypted qcow2 images: the LUKS header and what it leads to. Few cases: a password costs what it should.</summary>
internal sealed class LuksTarget : FuzzTarget
{
    private static readonly Lazy<(FuzzInput Input, List<FuzzField> Fields)[]> s_seeds = new(() =>
        [.. Qcow2Corpus.Encrypted.Select(seed => (seed, Qcow2Fields.Find(seed.MainBytes).Where(IsCrypto).ToList()))]);

    public override string Name => "luks";

    public override int BoundedCases => 150;

    public override string? Missing => s_seeds.Value.Length == 0 ? "qemu-img is not installed" : null;

    public override FuzzInput Make(Random random)
    {
        var (seed, fields) = s_seeds.Value[random.Next(s_seeds.Value.Length)];
        var input = seed.Clone();
        Mutator.Mutate(input.MainBytes, fields, random);
        return input;
    }

    public override FuzzInput FromFinding(byte[] bytes) => new("test.qcow2", SparseBytes.From(bytes)) { MaxKeyIterations = 2_000_000 };

    public override ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken) =>
        new Workout(input, random, cancellationToken, maxExtents: 8).RunAsync("qcow2");

    private static bool IsCrypto(FuzzField field) =>
        field.Name.Contains("LUKS", StringComparison.Ordinal) || field.Name.Contains("crypt", StringComparison.Ordinal);
}
