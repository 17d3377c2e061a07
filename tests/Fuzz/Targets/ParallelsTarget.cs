using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Parallels images: open, info, check, map, read, dirty bitmaps.</summary>
internal sealed class ParallelsTarget : FuzzTarget
{
    private readonly Dictionary<FuzzInput, List<FuzzField>> _fields = [];

    public override string Name => "parallels";

    public override int BoundedCases => 3000;

    public override FuzzInput Make(Random random)
    {
        var seed = ParallelsCorpus.All[random.Next(ParallelsCorpus.All.Count)];
        if (!_fields.TryGetValue(seed, out var fields))
        {
            _fields[seed] = fields = ParallelsFields.Find(seed.MainBytes);
        }

        var input = seed.Clone();
        Mutator.Mutate(input.MainBytes, fields, random);
        if (random.Next(4) != 0)
        {
            ParallelsFields.FixChecksum(input.MainBytes);
        }

        return input;
    }

    public override FuzzInput FromFinding(byte[] bytes) => new("test.hds", SparseBytes.From(bytes));

    public override ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken) =>
        new Workout(input, random, cancellationToken).RunAsync(random.Next(4) == 0 ? null : "parallels");
}
