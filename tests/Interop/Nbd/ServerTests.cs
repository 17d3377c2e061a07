using System.Net;
using System.Net.Sockets;
using Platter.Nbd.Server;
using Platter.TestKit;
using Xunit;
using NbdServer = Platter.Nbd.Server.NbdServer;

namespace Platter.Tests.Interop.Nbd;

/// <summary>Our server against the peers' clients: raw with holes, and qcow2 with a backing file, compressed and zero clusters.</summary>
public sealed class ServerTests
{
    [Fact]
    public async Task Nbdinfo_shows_the_export()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        await using var served = await Served.RawAsync();
        var list = ToolRunner.RunChecked("nbdinfo", "--list", "--json", served.Uri).Text;
        Assert.Contains("\"export-name\": \"disk\"", list);
        Assert.Contains("\"description\": \"a disk\"", list);
        Assert.Contains("\"export-size\": 67108864", list);
        Assert.Contains("\"base:allocation\"", list);
        var info = ToolRunner.RunChecked("nbdinfo", "--json", served.Uri).Text;
        foreach (var fact in (string[])
            [
                "\"protocol\": \"newstyle-fixed\"", "\"structured\": true", "\"is_read_only\": true", "\"can_multi_conn\": true",
                "\"can_cache\": true", "\"can_df\": true", "\"can_flush\": false", "\"block_size_minimum\": 1", "\"block_size_preferred\": 4096",
                "\"block_size_maximum\": 33554432",
            ])
        {
            Assert.Contains(fact, info);
        }
    }

    [Fact]
    public async Task Nbdinfo_maps_a_raw_file_as_qemu_nbd_does() => await SameMapAsync("raw");

    [Fact]
    public async Task Nbdinfo_maps_a_chain_as_qemu_nbd_does() => await SameMapAsync("qcow2");

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public async Task Nbdcopy_and_qemu_img_read_the_same_bytes(bool qcow2, bool tcp)
    {
        ToolRunner.RequireOrSkip("nbdcopy", "qemu-img");
        await using var served = await (qcow2 ? Served.Qcow2Async(tcp) : Served.RawAsync(tcp));
        var expected = served.Folder["expected"];
        ToolRunner.RunChecked("qemu-img", "convert", "-O", "raw", served.Image, expected);
        ToolRunner.RunChecked("nbdcopy", served.Uri, served.Folder["nbdcopy"]);
        AssertSameFile(expected, served.Folder["nbdcopy"]);
        ToolRunner.RunChecked("nbdcopy", "--request-size=4096", "--connections=4", served.Uri, served.Folder["small"]);
        AssertSameFile(expected, served.Folder["small"]);
        ToolRunner.RunChecked("nbdcopy", "--no-extents", "--request-size=33554432", served.Uri, served.Folder["large"]);
        AssertSameFile(expected, served.Folder["large"]);
        ToolRunner.RunChecked("qemu-img", "convert", "-f", "raw", "-O", "raw", served.Uri, served.Folder["convert"]);
        AssertSameFile(expected, served.Folder["convert"]);
        ToolRunner.RunChecked("qemu-img", "compare", "-f", "raw", "-F", "raw", served.Uri, expected);
        Assert.Contains("64 MiB", ToolRunner.RunChecked("qemu-img", "info", served.Uri).Text);
    }

    [Fact]
    public async Task Qemu_io_reads_and_is_refused_to_write()
    {
        ToolRunner.RequireOrSkip("qemu-io");
        await using var served = await Served.Qcow2Async();
        var read = ToolRunner.RunChecked("qemu-io", "-f", "raw", "-r", "-c", "read -P 1 0 1M", "-c", "read -P 4 40M 64k", "-c", "read -P 0 60M 4M", served.Uri);
        Assert.DoesNotContain("verification failed", read.Text);
        Assert.NotEqual(0, ToolRunner.Run("qemu-io", "-f", "raw", "-c", "write -P 1 0 1M", served.Uri).ExitCode);
    }

    [Fact]
    public async Task A_client_with_simple_replies_reads_the_same()
    {
        ToolRunner.RequireOrSkip("nbdsh", "qemu-img");
        await using var served = await Served.Qcow2Async();
        ToolRunner.RunChecked("qemu-img", "convert", "-O", "raw", served.Image, served.Folder["expected"]);

        // nbdsh runs the first python3 it finds, which need not be the one that has its module.
        var systemPython = new Dictionary<string, string?> { ["PATH"] = "/usr/bin:/bin" };
        var nbdsh = new ToolCommand("nbdsh", "-c", "pass") { Environment = systemPython };
        Assert.SkipUnless(ToolRunner.Run(nbdsh).ExitCode == 0, "nbdsh does not work here");
        ToolRunner.Run(new ToolCommand(
            "nbdsh", "-c",
            $"h.set_request_structured_replies(False)\nh.connect_uri('{served.Uri}')\nassert not h.get_structured_replies_negotiated()\n"
            + $"f = open('{served.Folder["expected"]}', 'rb')\n"
            + "for o in range(0, 64 << 20, 8 << 20):\n    assert h.pread(8 << 20, o) == f.read(8 << 20)\n"
            + "for o in range(0, 64 << 20, 1 << 20):\n    f.seek(o + 13)\n    assert h.pread(5000, o + 13) == f.read(5000)\n") { Environment = systemPython }).Expect();
    }

    private static async Task SameMapAsync(string format)
    {
        ToolRunner.RequireOrSkip("nbdinfo", "qemu-nbd");
        await using var served = await (format == "raw" ? Served.RawAsync() : Served.Qcow2Async());
        using var peer = TestKit.NbdServer.QemuNbd(served.Image, format, served.Folder);
        Assert.Equal(ToolRunner.RunChecked("nbdinfo", "--map", peer.Uri).Text, ToolRunner.RunChecked("nbdinfo", "--map", served.Uri).Text);
    }

    private static void AssertSameFile(string expected, string actual) => Assert.True(
        File.ReadAllBytes(expected).AsSpan().SequenceEqual(File.ReadAllBytes(actual)), $"{actual} differs");

    /// <summary>An image, opened and served.</summary>
    private sealed class Served : IAsyncDisposable
    {
        private readonly Disk _disk;
        private readonly NbdServer _server;

        private Served(TempFolder folder, string image, Disk disk, bool tcp)
        {
            (Folder, Image, _disk) = (folder, image, disk);
            _server = new NbdServer(new Dictionary<string, NbdExport> { ["disk"] = new(disk.Node, "a disk") });
            _server.Start(tcp ? new IPEndPoint(IPAddress.Loopback, 0) : new UnixDomainSocketEndPoint(folder["s"]));
            Uri = tcp ? $"nbd://127.0.0.1:{((IPEndPoint)_server.EndPoints[0]).Port}/disk" : $"nbd+unix:///disk?socket={folder["s"]}";
        }

        public TempFolder Folder { get; }

        public string Image { get; }

        public string Uri { get; }

        public static async Task<Served> RawAsync(bool tcp = false)
        {
            var folder = new TempFolder("served");
            var bytes = new byte[3 << 20];
            new Random(1).NextBytes(bytes);
            using (var file = File.Create(folder["a.raw"]))
            {
                file.SetLength(64 << 20);
                file.Write(bytes);
                file.Position = 20 << 20;
                file.Write(bytes.AsSpan(0, 100_000));
            }

            return new(folder, folder["a.raw"], await Disk.OpenAsync(folder["a.raw"], new() { Format = "raw" }), tcp);
        }

        public static async Task<Served> Qcow2Async(bool tcp = false)
        {
            ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
            var folder = new TempFolder("served");
            var (below, top) = (folder["below.qcow2"], folder["top.qcow2"]);
            ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", below, "60M");
            ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "write -P 2 10M 700k", "-c", "write -c -P 4 40M 64k", below);
            ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", top, "64M");
            ToolRunner.RunChecked(
                "qemu-io", "-f", "qcow2", "-c", "write -P 3 10M 64k", "-c", "write -z 10300k 200k", "-c", "write -P 5 30M 3000k", "-c", "write -z -u 31M 128k",
                "-c", "write -c -P 6 50M 64k", "-c", "write -P 9 59M 100k", top);
            return new(folder, top, await Disk.OpenAsync(top), tcp);
        }

        public async ValueTask DisposeAsync()
        {
            await _server.StopAsync(TimeSpan.FromSeconds(5));
            await _disk.DisposeAsync();
            Folder.Dispose();
        }
    }
}
