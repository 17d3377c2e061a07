using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Fuzz;

/// <summary>The liars of the NBD fuzzers tell the truth when asked to: otherwise the fuzzers would test nothing behind the first answer.</summary>
public sealed class FakeNbdServerTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Without_mistakes_the_fake_server_satisfies_the_peers_client(int seed)
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        using var folder = new TempFolder("fake");
        using var server = new FakeNbdServer(folder["socket"], new Random(seed), 0, 1 << 20);

        var info = ToolRunner.RunChecked("nbdinfo", "--json", $"nbd+unix:///disk?socket={folder["socket"]}");
        Assert.Contains("\"export-size\": 1048576", info.Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Without_mistakes_the_fake_client_is_served_by_the_peers_server(int seed)
    {
        ToolRunner.RequireOrSkip("nbdkit");
        using var folder = new TempFolder("fake");
        using var server = NbdServer.Nbdkit(folder, "memory", "1M");

        var answer = NbdTalk.Talk(server.Socket, NbdClientBytes.Make(new Random(seed), 0, 1 << 20), CancellationToken.None);
        Assert.True(answer > 18 + 20, $"{answer} bytes came back");
    }

    [Fact]
    public async Task Our_client_gets_as_far_as_reading_from_most_servers_that_make_mistakes()
    {
        var (target, allowed, before) = (new NbdClientTarget(), 0L, NbdClientTarget.Requests);
        const int Cases = 60;
        Oracle.StartCounting();
        for (var seed = 0; seed < Cases; seed++)
        {
            var random = new Random(seed);
            await target.SwallowAsync(target.Make(random), random, CancellationToken.None);
        }

        (allowed, _) = Oracle.Counts;
        Assert.True(allowed > 10 * Cases, $"only {allowed} requests of {Cases} cases succeeded");
        Assert.True(NbdClientTarget.Requests - before > 10 * Cases, $"only {NbdClientTarget.Requests - before} requests were answered");
    }
}
