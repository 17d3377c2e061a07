using System.Globalization;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Fuzz;

/// <summary>Clients that say nonsense to <c>platter serve</c>: it hangs up or answers, goes on serving the others, stays small, and ends when told.</summary>
/// <remarks>The server is a process of its own, seen from outside. A case is one connection; its bytes follow from the seed that is printed.</remarks>
public sealed class NbdServerFuzzTests
{
    private const long DiskBytes = 1 << 20;
    private const int BoundedCases = 600, CasesBetweenLooks = 50;

    [Fact]
    public void A_server_survives_clients_that_break_the_protocol()
    {
        using var folder = new TempFolder("serve");
        using var server = Start(folder);
        var (first, count) = (0, BoundedCases);
        var until = DateTime.UtcNow;
        if (Environment.GetEnvironmentVariable("PLATTER_FUZZ_SEED") is { Length: > 0 } replay)
        {
            Assert.SkipUnless(replay.StartsWith("nbd-server:", StringComparison.Ordinal), $"only {replay} is replayed");
            (first, count) = (int.Parse(replay.Split(':')[1], CultureInfo.InvariantCulture), 1);
        }
        else if (double.TryParse(
            Environment.GetEnvironmentVariable("PLATTER_FUZZ_MINUTES"), NumberStyles.Float, CultureInfo.InvariantCulture, out var minutes) && minutes > 0)
        {
            // Fresh seeds, for a part of the time.
            first = (int)(DateTime.UtcNow.Ticks >> 20);
            until += TimeSpan.FromMinutes(minutes / 5);
        }

        for (var seed = first; seed < first + count || DateTime.UtcNow < until; seed++)
        {
            var random = new Random(seed);
            var bytes = NbdClientBytes.Make(random, random.Next(3, 40), DiskBytes);
            try
            {
                NbdTalk.Talk(server.Socket, bytes, CancellationToken.None);
            }
            catch (System.Net.Sockets.SocketException e)
            {
                Assert.Fail($"PLATTER_FUZZ_SEED=nbd-server:{seed}: {e.Message}\n{server.Log}");
            }

            if (seed % CasesBetweenLooks == 0)
            {
                LookAt(server, $"nbd-server:{seed}");
            }
        }

        LookAt(server, "in the end");
    }

    [Fact]
    public void A_client_that_leaves_in_the_middle_of_any_byte_is_forgotten()
    {
        using var folder = new TempFolder("serve");
        using var server = Start(folder);
        var bytes = NbdClientBytes.Make(new Random(2), 0, DiskBytes);
        for (var length = 0; length < Math.Min(bytes.Length, 400); length++)
        {
            NbdTalk.Talk(server.Socket, bytes[..length], CancellationToken.None);
        }

        LookAt(server, "every length");
    }

    private static NbdServer Start(TempFolder folder)
    {
        folder.Write("disk.raw", new byte[DiskBytes]);
        var command = PlatterCli.Command("serve", "-t", "-w", "-e", "16", "-f", "raw", "-k", "{socket}", folder["disk.raw"]);
        return NbdServer.Start(command, folder);
    }

    // An ordinary conversation still works, nothing was said that a user should not see, and memory stays bounded.
    private static void LookAt(NbdServer server, string when)
    {
        var answer = NbdTalk.Talk(server.Socket, NbdClientBytes.Make(new Random(1), 0, DiskBytes), CancellationToken.None);
        Assert.True(answer > 18, $"{when}: only {answer} bytes came back from an ordinary conversation\n{server.Log}");
        Assert.DoesNotContain("   at ", server.Log, StringComparison.Ordinal);
        var peak = File.ReadLines($"/proc/{server.ProcessId}/status").First(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
        var bytes = long.Parse(peak.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
        Assert.True(bytes < 256L << 20, $"{when}: the server has held {bytes >> 20} MiB");
    }
}
