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
}
