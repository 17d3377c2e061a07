using System.Net;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

/// <summary>What our client writes to real servers, judged by the tools' own client.</summary>
public sealed class ClientWriteTests : IDisposable
{
    private const int Size = 8 << 20;

    private readonly TempFolder _folder = new("nbd");

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("qemu-nbd raw")]
    [InlineData("qemu-nbd qcow2")]
    [InlineData("qemu-nbd one client")]
    [InlineData("qemu-storage-daemon")]
    [InlineData("nbd-server")]
    [InlineData("memory")]
    [InlineData("memory --no-sr")]
    [InlineData("memory --mask-handshake=0")]
    [InlineData("memory --filter=multi-conn multi-conn-mode=disable")]
    [InlineData("memory --filter=multi-conn multi-conn-mode=emulate")]
    [InlineData("memory --filter=cow")]
    [InlineData("memory --filter=nozero zeromode=none")]
    [InlineData("memory --filter=nozero zeromode=notrim")]
    [InlineData("memory --filter=fua fuamode=emulate")]
    [InlineData("memory --filter=fua fuamode=force")]
    [InlineData("memory --filter=delay delay-write=2ms delay-read=1ms")]
    [InlineData("memory --filter=blocksize-policy blocksize-minimum=512 blocksize-preferred=4096 blocksize-maximum=64K blocksize-error-policy=error")]
    [InlineData("memory --filter=blocksize-policy blocksize-minimum=64K blocksize-preferred=64K blocksize-maximum=1M blocksize-error-policy=error")]
    public async Task Random_writes_arrive(string kind)
    {
        using var server = Serve(kind);
        var model = new byte[Size];
        const int seed = 61;
        var random = new Random(seed);
        await using (var storage = await NbdStorage.OpenAsync(NbdUri.Parse(server.Uri), new NbdClientOptions { Writable = true }, TestContext.Current.CancellationToken))
        {
            Assert.Equal(Size, storage.Length);
            for (var round = 0; round < 25; round++)
            {
                await Task.WhenAll(Enumerable.Range(0, 8).Select(i => WriteAsync(storage, i << 20, random.Next(1 << 20), random.Next(1, 200_000), random.Next(6), random.Next())));
            }

            await storage.FlushAsync(TestContext.Current.CancellationToken);
            var read = new byte[Size];
            await storage.ReadAsync(HostOffset.Zero, read, TestContext.Current.CancellationToken);
            Assert.True(read.AsSpan().SequenceEqual(model), $"seed {seed}: what was read back differs");
        }

        // This tool obeys every limit.
        ToolRunner.RunChecked("qemu-img", "convert", "-f", "raw", "-O", "raw", server.Uri, _folder["theirs.raw"]);
        Assert.True(File.ReadAllBytes(_folder["theirs.raw"]).AsSpan().SequenceEqual(model), $"seed {seed}: what the tool reads differs");

        async Task WriteAsync(NbdStorage storage, int stripe, int at, int length, int what, int content)
        {
            length = Math.Min(length, (1 << 20) - at);
            at += stripe;
            if (what == 0)
            {
                await storage.WriteZeroesAsync(new(at), length, mayUnmap: content % 2 == 0);
                model.AsSpan(at, length).Clear();
                return;
            }

            var bytes = new byte[length];
            new Random(content).NextBytes(bytes);
            await storage.WriteAsync(new(at), bytes, durable: what == 1, CancellationToken.None);
            bytes.CopyTo(model, at);
        }
    }

    [Theory]
    [InlineData("qemu-nbd raw")]
    [InlineData("memory")]
    [InlineData("memory --no-sr")]
    public void Conversions_and_copies_into_an_export_are_the_tools(string kind)
    {
        var image = ClientInterop.MakeQcow2(_folder, "80M");
        ToolRunner.RunChecked("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, _folder["source.raw"]);
        using var server = Serve(kind, 80 << 20);
        PlatterCli.RunChecked("convert", "-n", "-O", "raw", "--verify", image, server.Uri);
        ToolRunner.RunChecked("qemu-img", "compare", "-F", "raw", image, server.Uri);
        PlatterCli.RunChecked("nbd", "copy", server.Uri, _folder["ours.raw"]);
        ToolRunner.RunChecked("cmp", _folder["ours.raw"], _folder["source.raw"]);
        using (var other = NbdServer.Nbdkit(_folder, "memory", $"{80 << 20}"))
        {
            PlatterCli.RunChecked("nbd", "copy", "--verify", "--request-size=64k", "-C", "2", server.Uri, other.Uri);
            ToolRunner.RunChecked("qemu-img", "compare", "-f", "raw", "-F", "raw", server.Uri, other.Uri);
        }

        // What was there is gone, zeros included.
        PlatterCli.RunChecked("io", "-f", "raw", "-c", "write -P 9 0 80M", server.Uri);
        PlatterCli.RunChecked("nbd", "copy", _folder["source.raw"], server.Uri);
        ToolRunner.RunChecked("qemu-img", "compare", "-F", "raw", image, server.Uri);
    }

    [Fact]
    public void Formats_in_an_export_are_changed_in_place()
    {
        using var server = Serve("qemu-nbd raw", 80 << 20);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", server.Uri, "40M");
        PlatterCli.RunChecked("io", "-c", "write -P 7 1M 3M", "-c", "write -z 2M 64k", server.Uri);
        PlatterCli.RunChecked("snapshot", "-c", "one", server.Uri);
        PlatterCli.RunChecked("resize", server.Uri, "60M");
        PlatterCli.RunChecked("io", "-c", "write -P 8 50M 1M", server.Uri);
        PlatterCli.RunChecked("check", server.Uri);
        ToolRunner.RunChecked("qemu-img", "check", server.Uri);
        ToolRunner.RunChecked("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 7 1M 1M", "-c", "read -P 0 2M 64k", "-c", "read -P 8 50M 1M", server.Uri);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-b", server.Uri, "-F", "qcow2", _folder["overlay.qcow2"]);
        PlatterCli.RunChecked("io", "-c", "write -P 5 5M 64k", _folder["overlay.qcow2"]);
        PlatterCli.RunChecked("commit", _folder["overlay.qcow2"]);
        ToolRunner.RunChecked("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 5 5M 64k", server.Uri);
    }

    [Theory]
    [InlineData("qcow2")]
    [InlineData("parallels")]
    [InlineData("raw")]
    public void Images_are_made_in_an_export_as_the_tool_makes_them(string format)
    {
        using var server = Serve("qemu-nbd raw", 16 << 20);
        File.WriteAllBytes(_folder["source.raw"], [.. TestContent.Make(1, 0, 3 << 20), .. new byte[5 << 20]]);
        var said = PlatterCli.RunChecked("create", "-f", format, server.Uri, "8M").Text;
        Assert.StartsWith($"Formatting '{server.Uri}', fmt={format} ", said, StringComparison.Ordinal);
        Assert.Contains($"\"format\": \"{format}\"", ToolRunner.RunChecked("qemu-img", "info", "--output=json", "-f", format, server.Uri).Text, StringComparison.Ordinal);
        PlatterCli.RunChecked("convert", "-f", "raw", "-O", format, _folder["source.raw"], server.Uri);
        ToolRunner.RunChecked("qemu-img", "compare", "-f", format, "-F", "raw", server.Uri, _folder["source.raw"]);
        PlatterCli.RunChecked("dd", "-f", "raw", "-O", format, $"if={_folder["source.raw"]}", $"of={server.Uri}", "bs=1M", "count=2");
        using (var file = File.OpenWrite(_folder["source.raw"]))
        {
            file.SetLength(2 << 20);
        }

        if (format == "raw")
        {
            ToolRunner.RunChecked("cmp", "-n", $"{2 << 20}", _folder["source.raw"], _folder["disk"]);
        }
        else
        {
            ToolRunner.RunChecked("qemu-img", "compare", "-s", "-f", format, "-F", "raw", server.Uri, _folder["source.raw"]);
        }
    }

    [Fact]
    public void What_does_not_fit_into_an_export_is_refused_in_one_line()
    {
        using var server = NbdServer.Nbdkit(_folder, "memory", "1M");
        File.WriteAllBytes(_folder["source.raw"], TestContent.Make(1, 0, 2 << 20));
        foreach (var arguments in (string[][])
            [
                ["create", "-f", "raw", server.Uri, "2M"], ["convert", "-O", "raw", _folder["source.raw"], server.Uri], ["convert", "-O", "qcow2", _folder["source.raw"], server.Uri],
                ["dd", $"if={_folder["source.raw"]}", $"of={server.Uri}"], ["create", "-f", "parallels-bundle", server.Uri, "1M"],
            ])
        {
            var run = PlatterCli.Run(arguments);
            Assert.Equal(1, run.ExitCode);
            Assert.Equal(1, run.Error.Count(c => c == '\n'));
        }
    }

    [Theory]
    [InlineData("error-pwrite", "EIO", BlockErrorKind.Io)]
    [InlineData("error-pwrite", "ENOSPC", BlockErrorKind.NoSpace)]
    [InlineData("error-pwrite", "EPERM", BlockErrorKind.ReadOnly)]
    [InlineData("error-zero", "EIO", BlockErrorKind.Io)]
    public async Task An_error_of_the_server_is_ours_and_a_copy_fails(string parameter, string error, BlockErrorKind kind)
    {
        using var server = NbdServer.Nbdkit(_folder, "--filter=error", "memory", $"{Size}", $"{parameter}={error}", $"{parameter}-rate=100%");
        await using (var storage = await NbdStorage.OpenAsync(NbdUri.Parse(server.Uri), new NbdClientOptions { Writable = true }))
        {
            var e = await Assert.ThrowsAsync<BlockException>(async () => await (parameter == "error-zero"
                ? storage.WriteZeroesAsync(HostOffset.Zero, 4096, mayUnmap: true) : storage.WriteAsync(HostOffset.Zero, new byte[4096])));
            Assert.Equal(kind, e.Kind);
        }

        File.WriteAllBytes(_folder["source.raw"], [.. TestContent.Make(1, 0, Size / 2), .. new byte[Size / 2]]);
        var run = PlatterCli.Run("nbd", "copy", _folder["source.raw"], server.Uri);
        Assert.Equal(1, run.ExitCode);
        Assert.Contains("the server could not write", run.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("null:")]
    [InlineData("copy.raw")]
    [InlineData("-")]
    public void A_read_error_fails_the_copy_wherever_it_goes(string destination)
    {
        using var server = NbdServer.Nbdkit(_folder, "--filter=error", "pattern", "64M", "error-pread=EIO", "error-pread-rate=2%");
        var run = PlatterCli.Run("nbd", "copy", "--request-size=64k", server.Uri, destination == "copy.raw" ? _folder[destination] : destination);
        Assert.Equal(1, run.ExitCode);
        Assert.Contains("Input/output error", run.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder["copy.raw"]));
    }

    [Fact]
    public void An_export_for_reading_only_is_refused_in_one_line()
    {
        using var server = NbdServer.Nbdkit(_folder, "-r", "memory", $"{Size}");
        File.WriteAllBytes(_folder["source.raw"], new byte[Size]);
        foreach (var run in new[]
            {
                PlatterCli.Run("nbd", "copy", _folder["source.raw"], server.Uri), PlatterCli.Run("convert", "-n", "-O", "raw", _folder["source.raw"], server.Uri),
                PlatterCli.Run("io", "-f", "raw", "-c", "write 0 512", server.Uri),
            })
        {
            Assert.NotEqual(0, run.ExitCode);
            Assert.Contains("the server offers this export for reading only", run.Error, StringComparison.Ordinal);
            Assert.Equal(1, run.Error.Count(c => c == '\n'));
        }
    }

    private NbdServer Serve(string kind, long size = Size)
    {
        var file = _folder["disk"];
        switch (kind)
        {
            case "qemu-nbd qcow2":
                ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", file, $"{size}");
                return NbdServer.Start(new ToolCommand("qemu-nbd", ["-t", "-e", "8", "-f", "qcow2", "-k", "{socket}", file]), _folder);
            case "qemu-nbd raw" or "qemu-nbd one client" or "qemu-storage-daemon" or "nbd-server":
                using (var stream = File.Create(file))
                {
                    stream.SetLength(size);
                }

                return kind switch
                {
                    "qemu-nbd raw" => NbdServer.Start(new ToolCommand("qemu-nbd", ["-t", "-e", "8", "--discard=unmap", "-f", "raw", "-k", "{socket}", file]), _folder),
                    "qemu-nbd one client" => NbdServer.Start(new ToolCommand("qemu-nbd", ["-t", "-f", "raw", "-k", "{socket}", file]), _folder),
                    "qemu-storage-daemon" => NbdServer.Start(
                        new ToolCommand(
                            "qemu-storage-daemon",
                            [
                                "--blockdev", $"driver=file,node-name=f,filename={file}", "--nbd-server", "addr.type=unix,addr.path={socket}",
                                "--export", "type=nbd,id=e,node-name=f,name=disk,writable=on",
                            ]),
                        _folder, "disk"),
                    _ => NbdServer.Start(new ToolCommand("sh", ["-c", NbdServerScript(file)]), _folder, "disk", socket => ConfigureNbdServer(file, socket)),
                };
            default:
                var words = kind.Split(' ');
                string[] parameters = [.. words[1..].Where(word => !word.StartsWith('-'))];
                return NbdServer.Nbdkit(_folder, [.. words[1..].Where(word => word.StartsWith('-')), words[0], $"{size}", .. parameters]);
        }
    }

    // It goes to the background, and its option not to is broken.
    private static string NbdServerScript(string file)
    {
        ToolRunner.RequireOrSkip("nbd-server");
        return $"nbd-server -C '{file}.conf' -p '{file}.pid' || exit 1; trap 'kill $(cat {file}.pid); exit 0' TERM; while sleep 0.2; do kill -0 $(cat '{file}.pid') || exit 1; done";
    }

    // It must have a port as well.
    private static void ConfigureNbdServer(string file, string socket) => File.WriteAllText(
        $"{file}.conf",
        $"[generic]\nunixsock = {socket}\nlisten = 127.0.0.1\nport = {FreePort()}\nallowlist = true\n[disk]\nexportname = {file}\nflush = true\nfua = true\ntrim = true\n");

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
