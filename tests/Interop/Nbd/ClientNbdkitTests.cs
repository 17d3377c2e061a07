using System.Net;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

public sealed class ClientNbdkitTests : IDisposable
{
    private readonly TempFolder _folder = new("nbd");

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("pattern", "10M")]
    [InlineData("pattern", "12345678")]
    [InlineData("memory", "100M")]
    [InlineData("sparse-random", "100M", "seed=3")]
    [InlineData("sparse-random", "64M", "seed=4", "percent=40", "runlength=65536", "--filter=noextents")]
    [InlineData("sparse-random", "64M", "seed=4", "percent=40", "runlength=65536", "--no-sr")]
    [InlineData("sparse-random", "64M", "seed=5", "--filter=nocache", "--filter=noparallel")]
    [InlineData("sparse-random", "16M", "seed=6", "--mask-handshake=0")]
    public async Task An_export_has_the_tools_map_and_bytes(string plugin, string size, params string[] more)
    {
        using var server = NbdServer.Nbdkit(_folder, [.. more.Where(IsOption), plugin, size, .. more.Where(m => !IsOption(m))]);
        ClientInterop.AssertSameConversion(server, _folder);
        if (int.TryParse(size, out var odd) && odd % 512 != 0)
        {
            // The tool rounds an odd size of a raw disk up to whole sectors; the map of the last one differs.
            Assert.True(new FileInfo(_folder["ours.raw"]).Length >= odd);
        }
        else
        {
            ClientInterop.AssertSameMap(server);
        }

        // sparse-random makes up whole blocks: parts of one, asked for alone, have other bytes.
        await using var storage = await ClientInterop.OpenAsync(server);
        await ClientInterop.AssertSameReadsAsync(storage, _folder["theirs.raw"], plugin == "sparse-random" ? 4096 : 1);
    }

    [Theory]
    [InlineData("512", "4096", "64K")]
    [InlineData("4096", "4096", "64K")]
    [InlineData("64K", "64K", "64K")]
    [InlineData("1", "512", "4096")]
    public async Task Requests_obey_a_servers_block_sizes(string minimum, string preferred, string maximum)
    {
        using var server = NbdServer.Nbdkit(
            _folder, "--filter=blocksize-policy", "pattern", "16M", $"blocksize-minimum={minimum}",
            $"blocksize-preferred={preferred}", $"blocksize-maximum={maximum}", "blocksize-error-policy=error");
        ClientInterop.AssertSameConversion(server, _folder);
        await using var storage = await ClientInterop.OpenAsync(server);
        Assert.Equal(storage.BlockSizes.Minimum, (uint)storage.RequestAlignment);
        await ClientInterop.AssertSameReadsAsync(storage, _folder["theirs.raw"]);
    }

    [Fact]
    public async Task Requests_to_a_slow_server_overlap_and_all_succeed()
    {
        using var server = NbdServer.Nbdkit(_folder, "--filter=delay", "pattern", "4M", "rdelay=20ms");
        await using var storage = await ClientInterop.OpenAsync(server);
        var all = new byte[4 << 20];
        var reads = Enumerable.Range(0, 64).Select(i => storage.ReadAsync(new HostOffset(i << 16), all.AsMemory(i << 16, 1 << 16)).AsTask());
        await Task.WhenAll(reads);

        // The plugin's content: every 8 bytes hold their own offset, big-endian.
        for (var i = 0; i < all.Length; i += 8)
        {
            Assert.Equal((ulong)i, System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(all.AsSpan(i)));
        }
    }

    [Theory]
    [InlineData("EIO", BlockErrorKind.Io)]
    [InlineData("ENOMEM", BlockErrorKind.Io)]
    [InlineData("EINVAL", BlockErrorKind.InvalidRequest)]
    [InlineData("EPERM", BlockErrorKind.ReadOnly)]
    public async Task Errors_fail_their_request_and_the_next_can_succeed(string error, BlockErrorKind kind)
    {
        var trigger = _folder["fail"];
        using var server = NbdServer.Nbdkit(
            _folder, "--filter=error", "memory", "1M", $"error-pread={error}", "error-pread-rate=100%", $"error-pread-file={trigger}");
        await using var storage = await ClientInterop.OpenAsync(server);
        var buffer = new byte[4096];
        Assert.Equal(4096, await storage.ReadAsync(default, buffer));
        File.WriteAllText(trigger, string.Empty);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(default, buffer));
        Assert.Equal(kind, e.Kind);
        File.Delete(trigger);
        Assert.Equal(4096, await storage.ReadAsync(default, buffer));
    }

    [Fact]
    public void A_conversion_with_read_errors_fails_and_leaves_nothing_that_looks_finished()
    {
        using var server = NbdServer.Nbdkit(
            _folder,
            "eval",
            "get_size=echo 64M",
            "pread=if [ $4 -ge 33554432 ]; then echo EIO >&2; exit 1; fi; head -c $3 /dev/urandom");
        var result = PlatterCli.Run("convert", "-O", "raw", server.Uri, _folder["ours.raw"]);
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("Input/output error", result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder["ours.raw"]));
    }

    [Fact]
    public void Map_errors_are_errors()
    {
        using var server = NbdServer.Nbdkit(_folder, "--filter=error", "memory", "64M", "error-extents=EIO", "error-extents-rate=100%");
        Assert.NotEqual(0, PlatterCli.Run("map", server.Uri).ExitCode);
    }

    [Fact]
    public async Task A_disk_of_an_exbibyte_maps_in_few_round_trips()
    {
        using var server = NbdServer.Nbdkit(_folder, "memory", "1E");
        await using var storage = await ClientInterop.OpenAsync(server);
        Assert.Equal(1L << 60, storage.Length);
        var extent = await storage.MapAsync(new HostOffset(1L << 59), 1L << 40);
        Assert.True(extent.ReadsZero && extent.Length > 1L << 31);
    }

    [Fact]
    public async Task Exports_of_a_folder_are_listed_and_opened_by_name()
    {
        var exports = _folder.CreateFolder("exports");
        foreach (var (name, size) in new[] { ("one", 1000), ("two", 2000) })
        {
            File.WriteAllBytes(Path.Combine(exports, name), TestContent.Make(size, 0, size));
        }

        using var server = NbdServer.Nbdkit(_folder, "file", $"dir={exports}");
        var listed = await NbdClient.ListExportsAsync(NbdUri.Parse(server.Uri));
        Assert.Equal(["one", "two"], listed.Select(e => e.Name).Order(StringComparer.Ordinal));
        var options = new NodeOptions { ["driver"] = "nbd", ["server.type"] = "unix", ["server.path"] = server.Socket, ["export"] = "two" };
        await using var storage = await NbdStorage.OpenAsync(NbdAddress.FromOptions(options));
        var buffer = new byte[4096];
        Assert.Equal(2000, await storage.ReadAsync(default, buffer));
        Assert.Equal(TestContent.Make(2000, 0, 2000), buffer[..2000]);
    }

    [Fact]
    public async Task Tcp_works_as_well()
    {
        // The servers cannot choose a free port and say which: a relay can.
        using var server = NbdServer.Nbdkit(_folder, "pattern", "1M");
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var relay = RelayAsync(listener, server.Socket);
        var storage = await NbdStorage.OpenAsync(NbdUri.Parse($"nbd://localhost:{((IPEndPoint)listener.LocalEndpoint).Port}/"));
        Assert.Equal(1 << 20, storage.Length);
        Assert.Equal(4096, await storage.ReadAsync(default, new byte[4096]));
        await storage.DisposeAsync();
        await relay;
    }

    [Fact]
    public async Task An_oldstyle_server_is_refused_with_words()
    {
        using var server = NbdServer.Nbdkit(_folder, "--oldstyle", "memory", "1M");
        var e = await Assert.ThrowsAsync<BlockException>(async () => await ClientInterop.OpenAsync(server));
        Assert.Equal(BlockErrorKind.Unsupported, e.Kind);
        Assert.Contains("oldstyle", e.Message, StringComparison.Ordinal);
    }

    private static async Task RelayAsync(TcpListener listener, string socket)
    {
        using var client = await listener.AcceptTcpClientAsync();
        using var server = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await server.ConnectAsync(new UnixDomainSocketEndPoint(socket));
        await using var near = client.GetStream();
        await using var far = new NetworkStream(server);
        await Task.WhenAny(near.CopyToAsync(far), far.CopyToAsync(near));
    }

    private static bool IsOption(string text) => text.StartsWith('-');
}
