using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

/// <summary>Servers that are killed in the middle of a copy: what comes out is right, or the exit code says that it is not.</summary>
public sealed class LostServerTests : IDisposable
{
    private const int Size = 12 << 20;

    private readonly TempFolder _folder = new("nbd");

    public LostServerTests() => File.WriteAllBytes(_folder["source"], TestContent.Make(1, 0, Size));

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("qemu-nbd")]
    [InlineData("nbdkit")]
    [InlineData("platter")]
    public async Task Reading_goes_on_when_the_server_is_back(string kind)
    {
        using var server = Serve(kind, "source");
        var before = server.BytesMoved;
        var copying = Task.Run(() => PlatterCli.Run("convert", "-r", "12M", "-f", "raw", "-O", "raw", Name(server, 20), _folder["copy"]));
        KillSoon(server, before, copying);
        using var again = Serve(kind, "source", server.Socket);
        (await copying).Expect();
        ToolRunner.RunChecked("cmp", _folder["source"], _folder["copy"]);
    }

    [Theory]
    [InlineData("qemu-nbd")]
    [InlineData("nbdkit")]
    [InlineData("platter")]
    public async Task Writing_goes_on_when_the_server_is_back(string kind)
    {
        File.WriteAllBytes(_folder["target"], new byte[Size]);
        using var server = Serve(kind, "target");
        var before = server.BytesMoved;
        var copying = Task.Run(() => PlatterCli.Run("convert", "-n", "-r", "12M", "-f", "raw", "-O", "raw", _folder["source"], Name(server, 20)));
        KillSoon(server, before, copying);
        using (Serve(kind, "target", server.Socket))
        {
            (await copying).Expect();
        }

        ToolRunner.RunChecked("cmp", _folder["source"], _folder["target"]);
    }

    [Theory]
    [InlineData("convert")]
    [InlineData("nbd copy")]
    [InlineData("compare")]
    public async Task A_server_that_does_not_come_back_fails_the_command_in_one_line(string command)
    {
        using var server = NbdServer.Nbdkit(_folder, "--filter=rate", "file", _folder["source"], "rate=64M");
        var before = server.BytesMoved;
        var running = Task.Run(() => PlatterCli.Run(command switch
        {
            "convert" => ["convert", "-f", "raw", "-O", "raw", Name(server, 1), _folder["copy"]],
            "nbd copy" => ["nbd", "copy", Name(server, 0), _folder["copy"]],
            _ => ["compare", "-f", "raw", "-F", "raw", Name(server, 1), _folder["source"]],
        }));
        KillSoon(server, before, running);
        var run = await running;

        // As with qemu-img, 3 and 4 say that a comparison could not be made.
        Assert.InRange(run.ExitCode, command == "compare" ? 3 : 1, command == "compare" ? 4 : 1);
        Assert.Contains(server.Socket, run.Error, StringComparison.Ordinal);
        Assert.Equal(1, run.Error.Count(c => c == '\n'));
        Assert.False(File.Exists(_folder["copy"]));
    }

    // In the middle: the rates above leave it about a second.
    private static void KillSoon(NbdServer server, long before, Task<ToolResult> running)
    {
        while (server.BytesMoved < before + (2 << 20))
        {
            Assert.False(running.IsCompleted, "the command was through before the server was killed");
            Thread.Sleep(10);
        }

        server.Kill();
    }

    private static string Name(NbdServer server, int delay) => $$"""json:{"driver":"nbd","uri":"{{server.Uri}}","reconnect-delay":"{{delay}}"}""";

    private NbdServer Serve(string kind, string file, string? socket = null) => NbdServer.Start(
        kind switch
        {
            "qemu-nbd" => new ToolCommand("qemu-nbd", ["-t", "-e", "8", "-f", "raw", "-k", "{socket}", _folder[file]]),
            "nbdkit" => new ToolCommand("nbdkit", ["-f", "--exit-with-parent", "-U", "{socket}", "file", _folder[file]]),
            _ => PlatterCli.Command("serve", "-w", "-f", "raw", "-k", "{socket}", _folder[file]),
        },
        _folder, socket: socket);
}
