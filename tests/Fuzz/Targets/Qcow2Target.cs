using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>qcow2 images: open, info, check, map, read, snapshots, bitmaps, backing and data files.</summary>
internal sealed class Qcow2Target : FuzzTarget
{
    private readonly Dictionary<FuzzInput, List<FuzzField>> _fields = [];

    public override string Name => "qcow2";

    public override int BoundedCases => 2000;

    public override FuzzInput Make(Random random)
    {
        var seed = Qcow2Corpus.All[random.Next(Qcow2Corpus.All.Count)];
        if (!_fields.TryGetValue(seed, out var fields))
        {
            _fields[seed] = fields = Qcow2Fields.Find(seed.MainBytes);
        }

        var input = seed.Clone();
        Mutator.Mutate(input.MainBytes, fields, random);
        return input;
    }

    public override FuzzInput FromFinding(byte[] bytes) => new("test.qcow2", SparseBytes.From(bytes));

    public override ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken) =>
        new Workout(input, random, cancellationToken).RunAsync(random.Next(4) == 0 ? null : "qcow2");
}
