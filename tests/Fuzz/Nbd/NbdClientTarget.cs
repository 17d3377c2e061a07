using Platter.Core.Units;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Our client against a server that makes mistakes, on purpose: open, info, map, read, write.</summary>
internal sealed class NbdClientTarget : FuzzTarget
{
    private const long DiskBytes = 1 << 20;

    private static long s_requests;

    /// <summary>Requests that the servers of all cases have answered.</summary>
    public static long Requests => Interlocked.Read(ref s_requests);

    public override string Name => "nbd-client";

    public override int BoundedCases => 400;

    public override FuzzInput Make(Random random) => FromFinding(BitConverter.GetBytes(random.Next()));

    /// <summary>The input is the seed of the server's dice: its answers depend on what the client asks.</summary>
    public override FuzzInput FromFinding(byte[] bytes) => new("seed", SparseBytes.From(bytes));

    public override async ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken)
    {
        var dice = new Random((int)input.MainBytes.U32Le(0));
        var path = Path.Combine(Path.GetTempPath(), $"platter-fuzz-{Environment.ProcessId}-{Guid.NewGuid():N}");
        try
        {
            var writable = dice.Next(3) == 0;
            using var server = new FakeNbdServer(path, dice, dice.Next(5) == 0 ? 0 : dice.Next(5, 60), DiskBytes, dice.Next(3) == 0 ? 0 : dice.Next(20, 300), writable);
            await Oracle.AllowsAsync(null, async () =>
            {
                var options = new DiskOpenOptions { Writable = writable, Format = writable ? "raw" : null };
                await using var disk = await Disk.OpenAsync($"nbd+unix:///disk?socket={path}", options, cancellationToken);
                var workout = new Workout(input, new Random(1), cancellationToken, maxExtents: 20);
                await workout.LookAsync(disk.Node);
                await ReadAsync(disk, server, cancellationToken);
                if (writable)
                {
                    await WriteAsync(disk, new Random(2), cancellationToken);
                }

                await workout.UseAsync(disk.Node);
            });
            Interlocked.Add(ref s_requests, server.Requests);
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static async ValueTask WriteAsync(Disk disk, Random random, CancellationToken cancellationToken)
    {
        for (var i = 0; i < 10 && disk.Size > 0; i++)
        {
            var at = random.NextInt64(Math.Min(disk.Size, DiskBytes));
            var length = random.Next(1, (int)Math.Min(200_000, Math.Min(disk.Size, DiskBytes) - at + 1));
            await Oracle.AllowsAsync(null, () => random.Next(4) switch
            {
                0 => disk.WriteZeroesAsync(at, length, cancellationToken),
                1 => disk.DiscardAsync(at, length, cancellationToken),
                2 => disk.FlushAsync(cancellationToken),
                _ => disk.WriteAsync(at, new byte[length], cancellationToken),
            });
        }
    }

    // What is read is what the server has, for as long as it has not lied.
    private static async ValueTask ReadAsync(Disk disk, FakeNbdServer server, CancellationToken cancellationToken)
    {
        var buffer = new byte[40_000];
        for (long at = 0; at < Math.Min(disk.Size, DiskBytes); at += buffer.Length)
        {
            var start = at;
            var read = 0;
            if (await Oracle.AllowsAsync(null, async () => read = await disk.ReadAsync(start, buffer, cancellationToken)) && !server.HasLied)
            {
                for (var i = 0; i < read; i++)
                {
                    if (buffer[i] != FakeNbdServer.ByteAt(at + i))
                    {
                        throw new FuzzException($"byte {at + i} was read as {buffer[i]}, the server has {FakeNbdServer.ByteAt(at + i)}");
                    }
                }
            }
        }
    }
}
