using Platter.Core.Units;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Our client against a server that makes mistakes, on purpose: open, info, map, read.</summary>
internal sealed class NbdClientTarget : FuzzTarget
{
    private const long DiskBytes = 1 << 20;

    public override string Name => "nbd-client";

    public override int BoundedCases => 250;

    public override FuzzInput Make(Random random) => FromFinding(BitConverter.GetBytes(random.Next()));

    /// <summary>The input is the seed of the server's dice: its answers depend on what the client asks.</summary>
    public override FuzzInput FromFinding(byte[] bytes) => new("seed", SparseBytes.From(bytes));

    public override async ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken)
    {
        var dice = new Random((int)input.MainBytes.U32Le(0));
        var path = Path.Combine(Path.GetTempPath(), $"platter-fuzz-{Environment.ProcessId}-{Guid.NewGuid():N}");
        try
        {
            using var server = new FakeNbdServer(path, dice, dice.Next(5) == 0 ? 0 : dice.Next(5, 60), DiskBytes);
            await Oracle.AllowsAsync(null, async () =>
            {
                await using var disk = await Disk.OpenAsync($"nbd+unix:///disk?socket={path}", cancellationToken: cancellationToken);
                var workout = new Workout(input, new Random(1), cancellationToken, maxExtents: 5);
                await workout.LookAsync(disk.Node);
                await workout.UseAsync(disk.Node);
            });
        }
        finally
        {
            File.Delete(path);
        }
    }
}
