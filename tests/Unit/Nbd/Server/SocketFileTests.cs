using System.Diagnostics;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Nbd.Server;
using Platter.TestKit;
using Xunit;
using NbdServer = Platter.Nbd.Server.NbdServer;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>The file of a unix socket: whose it is, who may use it, and what is in its place already.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class SocketFileTests : IAsyncDisposable
{
    private static readonly byte[] s_bytes = TestDisks.Pattern(65536);
    private readonly TempFolder _folder = new("socket");
    private readonly NbdServer _server = new(new Dictionary<string, NbdExport> { [string.Empty] = new(TestDisks.Memory(s_bytes)) });

    private string SocketPath => _folder["s"];

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        _folder.Dispose();
    }

    [Fact]
    public async Task What_a_crash_left_behind_is_replaced()
    {
        LeaveBehind(SocketPath);
        _server.Start(new UnixDomainSocketEndPoint(SocketPath));
        using (var client = RawClient.Open(new UnixDomainSocketEndPoint(SocketPath), structured: true))
        {
            Assert.Equal(s_bytes[..512], client.ReadStructured(0, 512));
        }

        await _server.StopAsync(TimeSpan.FromSeconds(5));
        Assert.False(Path.Exists(SocketPath));
    }

    [Fact]
    public async Task A_socket_that_somebody_listens_on_is_left_to_him()
    {
        _server.Start(new UnixDomainSocketEndPoint(SocketPath));
        await using var second = new NbdServer(_server.Exports);
        Assert.Equal(BlockErrorKind.Locked, Refused(second, SocketPath).Kind);
        await second.StopAsync(TimeSpan.FromSeconds(5));
        using var still = RawClient.Open(new UnixDomainSocketEndPoint(SocketPath), structured: true);
        Assert.Equal(s_bytes[..512], still.ReadStructured(0, 512));
    }

    [Fact]
    public async Task Another_servers_socket_in_its_place_stays_when_it_stops()
    {
        _server.Start(new UnixDomainSocketEndPoint(SocketPath));
        File.Delete(SocketPath);
        await using var second = new NbdServer(_server.Exports);
        second.Start(new UnixDomainSocketEndPoint(SocketPath));
        await _server.StopAsync(TimeSpan.FromSeconds(5));
        await _server.DisposeAsync();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        using var client = RawClient.Open(new UnixDomainSocketEndPoint(SocketPath), structured: true);
        Assert.Equal(s_bytes[..512], client.ReadStructured(0, 512));
    }

    [Fact]
    public void A_socket_whose_server_is_too_busy_to_accept_is_left_to_it()
    {
        using var busy = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        busy.Bind(new UnixDomainSocketEndPoint(SocketPath));
        busy.Listen(1);
        var waiting = new List<Socket>();
        for (var i = 0; i < 2; i++)
        {
            waiting.Add(new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified));
            waiting[i].Connect(new UnixDomainSocketEndPoint(SocketPath));
        }

        // Its queue is full: a further connection would wait for ever.
        Assert.Equal(BlockErrorKind.Locked, Refused(_server, SocketPath).Kind);
        Assert.True(Path.Exists(SocketPath));
        waiting.ForEach(socket => socket.Dispose());
    }

    [Theory]
    [InlineData("file")]
    [InlineData("empty file")]
    [InlineData("file that nobody may open")]
    [InlineData("folder")]
    [InlineData("fifo")]
    [InlineData("link to a file")]
    [InlineData("link to nothing")]
    [InlineData("link to a live socket")]
    [InlineData("link to a socket of a crash")]
    public void What_is_no_socket_is_never_deleted(string kind)
    {
        var target = _folder["target"];
        using var live = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        switch (kind)
        {
            case "folder":
                Directory.CreateDirectory(SocketPath);
                break;
            case "fifo":
                Assert.SkipUnless(File.Exists("/usr/bin/mkfifo"), "no mkfifo");
                Process.Start("/usr/bin/mkfifo", SocketPath).WaitForExit();
                break;
            case "link to a file":
                File.WriteAllText(target, "precious");
                File.CreateSymbolicLink(SocketPath, target);
                break;
            case "link to nothing":
                File.CreateSymbolicLink(SocketPath, target);
                break;
            case "link to a live socket":
                live.Bind(new UnixDomainSocketEndPoint(target));
                live.Listen();
                File.CreateSymbolicLink(SocketPath, target);
                break;
            case "link to a socket of a crash":
                LeaveBehind(target);
                File.CreateSymbolicLink(SocketPath, target);
                break;
            default:
                File.WriteAllText(SocketPath, kind == "empty file" ? string.Empty : "precious");
                if (kind == "file that nobody may open")
                {
                    File.SetUnixFileMode(SocketPath, UnixFileMode.None);
                }

                break;
        }

        var before = new FileInfo(SocketPath);
        var link = before.LinkTarget;
        var e = Refused(_server, SocketPath);
        Assert.StartsWith(SocketPath, e.Message, StringComparison.Ordinal);
        var after = new FileInfo(SocketPath);
        Assert.True(Path.Exists(SocketPath) || link is not null);
        Assert.Equal((before.Attributes, link, kind == "folder" ? 0 : before.Length), (after.Attributes, after.LinkTarget, kind == "folder" ? 0 : after.Length));
        Assert.Equal(kind is "link to a file" or "link to a live socket" or "link to a socket of a crash", Path.Exists(target));
    }

    [Theory]
    [InlineData("/dev/null")]
    [InlineData("/dev/tty")]
    public void A_device_is_never_deleted(string path)
    {
        Assert.SkipUnless(Path.Exists(path), $"no {path}");
        _ = Refused(_server, path);
        Assert.True(Path.Exists(path));
    }

    [Theory]
    [InlineData(UnixFileMode.UserRead | UnixFileMode.UserWrite)]
    [InlineData(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite)]
    public async Task It_has_the_mode_that_was_asked_for_before_anybody_can_connect(UnixFileMode mode)
    {
        // Whatever was there before does not matter.
        LeaveBehind(SocketPath);
        File.SetUnixFileMode(SocketPath, (UnixFileMode)0x1ff);
        await using var server = new NbdServer(_server.Exports, new() { SocketMode = mode });
        server.Start(new UnixDomainSocketEndPoint(SocketPath));
        Assert.Equal(mode, File.GetUnixFileMode(SocketPath));
    }

    [Fact]
    public void When_one_address_cannot_be_used_the_others_are_given_back()
    {
        File.WriteAllText(_folder["file"], "precious");
        Assert.Throws<BlockException>(() => _server.Start(new UnixDomainSocketEndPoint(SocketPath), new UnixDomainSocketEndPoint(_folder["file"])));
        Assert.False(Path.Exists(SocketPath));
        Assert.Empty(_server.EndPoints);
        _server.Start(new UnixDomainSocketEndPoint(SocketPath));
    }

    private static BlockException Refused(NbdServer server, string path) =>
        Assert.Throws<BlockException>(() => server.Start(new UnixDomainSocketEndPoint(path)));

    /// <summary>Bound and closed without unlinking: .NET unlinks, so the file is moved away meanwhile.</summary>
    private static void LeaveBehind(string path)
    {
        using (var crashed = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            crashed.Bind(new UnixDomainSocketEndPoint(path));
            File.Move(path, path + ".moved");
        }

        File.Move(path + ".moved", path);
    }
}
