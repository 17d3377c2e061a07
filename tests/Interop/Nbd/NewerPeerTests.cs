using System.Net.Sockets;
using Platter.Nbd.Server;
using Platter.TestKit;
using Xunit;
using NbdServer = Platter.Nbd.Server.NbdServer;

namespace Platter.Tests.Interop.Nbd;

/// <summary>Our server with clients that know extended headers.</summary>
public sealed class NewerPeerTests
{
    private const long Size = 6L << 30;

    [Fact]
    public async Task Nbdinfo_agrees_on_extended_headers_and_sees_every_context()
    {
        await using var served = await Served.OpenAsync();
        var info = NewerPeers.RunChecked("nbdinfo", served.Uri).Text;
        Assert.Contains("using extended packets", info);
        foreach (var context in (string[])["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b"])
        {
            Assert.Contains(context, info);
        }

        // One extent of more than 4 GiB: what compact headers cannot say.
        Assert.Matches(@"^ *0 +65536 +0 +data\s+65536 +6442385408 +3 +hole,zero\s*$", NewerPeers.RunChecked("nbdinfo", "--map", served.Uri).Text);
        Assert.Matches(@"^ *0 +65536 +1 +dirty\s+65536 +6442385408 +0 +clean\s*$", NewerPeers.RunChecked("nbdinfo", "--map=qemu:dirty-bitmap:b", served.Uri).Text);
    }

    [Fact]
    public async Task Qemu_io_and_nbdcopy_write_and_read()
    {
        await using var served = await Served.OpenAsync();
        var io = NewerPeers.RunChecked(
            "qemu-io", "-f", "raw", "-c", "write -P 1 5G 3M", "-c", "write -f -P 2 1M 64k", "-c", "write -z 5368713216 1M", "-c", "write -z -n 1G 4G", "-c", "discard 1M 64k",
            "-c", "flush", "-c", "read -P 0 5368713216 1M", "-c", "read -P 1 5G 4k", "-c", "read -P 0 4G 64k", served.Uri);
        Assert.DoesNotContain("failed", io.Text);
        var bytes = new byte[3 << 20];
        new Random(3).NextBytes(bytes);
        var file = served.Folder.Write("data", bytes);
        NewerPeers.RunChecked("nbdcopy", file, served.Uri);
        NewerPeers.RunChecked("nbdcopy", served.Uri, served.Folder["back"]);
        using (var back = File.OpenRead(served.Folder["back"]))
        {
            var read = new byte[bytes.Length];
            back.ReadExactly(read);
            Assert.Equal(bytes, read);
            Assert.Equal(Size, back.Length);
        }

        await served.CloseAsync();
        ToolRunner.RunChecked("qemu-img", "check", "-q", served.Image);
    }

    [Fact]
    public async Task Nbdsh_uses_lengths_of_64_bits_and_filters_contexts()
    {
        await using var served = await Served.OpenAsync(NewerPeers.Folder);
        NewerPeers.Nbdsh(
            served.InnerUri,
            """
            assert h.get_extended_headers_negotiated()
            assert h.can_block_status_payload()
            seen = {}
            def note(context, offset, entries, error):
                seen.setdefault(context, []).extend(entries)
            h.block_status_64(6 << 30, 0, note)
            assert sorted(seen) == ['base:allocation', 'qemu:dirty-bitmap:b'], seen
            assert seen['base:allocation'] == [(65536, 0), ((6 << 30) - 65536, 3)], seen
            seen.clear()
            h.block_status_filter(6 << 30, 0, ['qemu:dirty-bitmap:b'], note)
            assert seen == {'qemu:dirty-bitmap:b': [(65536, 1), ((6 << 30) - 65536, 0)]}, seen
            h.zero(5 << 30, 1 << 20)
            h.trim(6 << 30, 0)
            assert h.pread(65536, 0) == bytes(65536)
            h.pwrite(b'x' * 4096, (6 << 30) - 4096, nbd.CMD_FLAG_FUA)
            assert h.pread(4096, (6 << 30) - 4096) == b'x' * 4096
            h.cache(5 << 30, 0)
            h.flush()
            for length, offset in [(1, 6 << 30), (1 << 62, 0)]:
                try:
                    h.set_strict_mode(0)
                    h.zero(length, offset)
                    raise SystemExit('not refused')
                except nbd.Error as e:
                    assert e.errno == 'ENOSPC', e
            """,
            "h.add_meta_context('base:allocation')\nh.add_meta_context('qemu:dirty-bitmap:b')");
    }

    private sealed class Served : IAsyncDisposable
    {
        private readonly Disk _disk;
        private readonly NbdServer _server;
        private readonly string _socket;

        private Served(TempFolder folder, Disk disk, NbdBitmap bitmap, string? socketFolder)
        {
            (Folder, _disk) = (folder, disk);
            _socket = socketFolder is null ? folder["s"] : Path.Combine(socketFolder, $"{Guid.NewGuid():N}"[..12]);
            _server = new NbdServer(new Dictionary<string, NbdExport> { [""] = new(disk.Node) { IsWritable = true, TellsDepth = true, Bitmaps = [bitmap] } });
            _server.Start(new UnixDomainSocketEndPoint(_socket));
        }

        public TempFolder Folder { get; }

        public string Image => Folder["a.qcow2"];

        public string Uri => $"nbd+unix:///?socket={_socket}";

        public string InnerUri => $"nbd+unix:///?socket=/tmp/{Path.GetFileName(_socket)}";

        public static async Task<Served> OpenAsync(string? socketFolder = null)
        {
            NewerPeers.Command("nbdinfo");
            ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
            var folder = new TempFolder("newer");
            var image = folder["a.qcow2"];
            ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", image, "6G");
            ToolRunner.RunChecked("qemu-img", "bitmap", "--add", image, "b");
            ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", image);
            var disk = await Disk.OpenAsync(image, new() { Writable = true });
            return new(folder, disk, await NbdBitmap.ReadAsync(disk.Node, "b"), socketFolder);
        }

        public async Task CloseAsync()
        {
            await _server.StopAsync(TimeSpan.FromSeconds(5));
            await _disk.DisposeAsync();
        }

        public async ValueTask DisposeAsync()
        {
            await CloseAsync();
            Folder.Dispose();
        }
    }
}
