using Platter.Cli.Commands;
using Platter.Cli.Options;
using Platter.Cli.Serving;
using Xunit;

namespace Platter.Tests.Unit.Cli;

public sealed class ServeSettingsTests
{
    [Fact]
    public void Serve_listens_on_this_machine_alone_and_stays()
    {
        var settings = Serve("a.qcow2");
        Assert.Equal(("localhost", 10809, (int?)null, true, true), (settings.Bind, settings.Port, settings.MaxClients, settings.Persistent, settings.PrintsUri));
        Assert.Equal("nbd://localhost/", settings.UriOf(settings.Exports[0].Name, settings.Port));
    }

    [Fact]
    public void Limits_are_those_of_the_server_unless_they_are_given()
    {
        var defaults = new Platter.Nbd.Server.NbdServerOptions();
        foreach (var limits in (ServeLimits[])[Serve("i").Limits, Peer("i").Limits])
        {
            Assert.Equal((defaults.HandshakeTimeout, defaults.SendTimeout, defaults.MaxTotalInFlightBytes), (limits.Handshake, limits.Stall, limits.Memory));
            Assert.Equal(defaults.ReceiveTimeout, limits.Stall);
            Assert.Equal(TimeSpan.FromSeconds(5), limits.Stop);
        }

        var given = Serve("--limits=handshake=1,stall=2,stop=0,memory=1G", "i").Limits;
        Assert.Equal((1, 2, 0, 1L << 30), (given.Handshake.TotalSeconds, given.Stall.TotalSeconds, given.Stop.TotalSeconds, given.Memory));
    }

    [Fact]
    public void The_peer_listens_everywhere_for_one_client()
    {
        var settings = Peer("-r", "a.qcow2");
        Assert.Equal(("0.0.0.0", 10809, (int?)1, false, false), (settings.Bind, settings.Port, settings.MaxClients, settings.Persistent, settings.PrintsUri));
        settings = Peer("-rtvn", "-e8", "-p10810", "-b", "::1", "-xdisk 1", "-D", "a disk", "-o", "1M", "--cache=none", "--discard=unmap", "a.qcow2");
        Assert.Equal(("::1", 10810, (int?)8, true, 1L << 20), (settings.Bind, settings.Port, settings.MaxClients, settings.Persistent, settings.Exports[0].Offset));
        Assert.Equal("nbd://[::1]:10810/disk%201", settings.UriOf(settings.Exports[0].Name, settings.Port));
        Assert.Equal("a disk", settings.Exports[0].Description);
    }

    [Theory]
    [InlineData("nbd+unix:///?socket=/run/a%20b/s.sock", "-k", "/run/a b/s.sock", "i")]
    [InlineData("nbd+unix:///a%2Fb?socket=/s", "-x", "a/b", "-k/s", "i")]
    [InlineData("nbd://localhost:7/", "-p7", "-b0.0.0.0", "i")]
    [InlineData("nbd://10.0.0.1:7/%C3%BC", "-p7", "-b10.0.0.1", "-x\u00fc", "i")]
    public void The_uri_is_one_that_clients_understand(string uri, params string[] args)
    {
        var settings = Serve(args);
        Assert.Equal(uri, settings.UriOf(settings.Exports[0].Name, settings.Port));
    }

    [Theory]
    [InlineData("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap", "--detect-zeroes=unmap", "i")]
    [InlineData("--trace: tracing is not supported", "-T", "x", "i")]
    [InlineData("there is no --object of type tls-creds-x509, tls-creds-psk with the id 'x'", "--tls-creds=x", "i")]
    [InlineData("Invalid number of arguments")]
    [InlineData("Invalid number of arguments", "a", "b")]
    [InlineData("Invalid shared device number '-1'", "-e", "-1", "i")]
    [InlineData("Invalid port '99999': expected 1 to 65535", "-p", "99999", "i")]
    [InlineData("Invalid discard mode 'x'", "--discard=x", "i")]
    [InlineData("Invalid cache mode 'x'", "--cache=x", "i")]
    [InlineData("Invalid aio mode 'x'", "--aio=x", "i")]
    [InlineData("socket path must be absolute", "-k", "relative.sock", "i")]
    public void What_the_peer_can_and_we_cannot_is_refused_by_name(string message, params string[] args) =>
        Assert.Equal(message, Assert.Throws<UsageException>(() => Peer(args)).Message);

    [Theory]
    [InlineData("--socket cannot be used together with --bind or --port", "-k", "/s", "-p", "1", "i")]
    [InlineData("--once and --persistent exclude each other", "--once", "-t", "i")]
    [InlineData("--limits has no 'speed': expected handshake, stall, stop or memory", "--limits=speed=1", "i")]
    [InlineData("--limits handshake='0': expected 1 to 86400 seconds", "--limits=stall=3,handshake=0", "i")]
    [InlineData("--limits stop='': expected 0 to 86400 seconds", "--limits=stop", "i")]
    [InlineData("Invalid port '65536': expected 0 to 65535", "-p", "65536", "i")]
    public void Serve_refuses_contradictions(string message, params string[] args) =>
        Assert.Equal(message, Assert.Throws<UsageException>(() => Serve(args)).Message);

    [Fact]
    public void A_name_longer_than_the_protocol_allows_is_refused() => Assert.Equal(
        "export name of 4097 characters is too long: 4096 bytes fit the protocol",
        Assert.Throws<UsageException>(() => Serve("-x", new string('a', 4097), "i")).Message);

    [Fact]
    public async Task Under_its_name_qemu_nbd_answers()
    {
        Assert.Matches(@"^qemu-nbd \d+\.\d+\.\d+ \(Platter ", (await CliRun.AsAsync("qemu-nbd", ["--version"])).Output);
        Assert.StartsWith("Usage: qemu-nbd [OPTION]... FILE\n", (await CliRun.AsAsync("qemu-nbd", ["--help"])).Output, StringComparison.Ordinal);
        var run = await CliRun.AsAsync("qemu-nbd", ["-r", "/nonexistent/x"]);
        Assert.Equal((1, "qemu-nbd: Could not open '/nonexistent/x': No such file or directory\n"), (run.ExitCode, run.Error));
    }

    private static ServeSettings Serve(params string[] args) => ServeCommand.Parse(OptionParser.Parse(new ServeCommand().Options, args));

    private static ServeSettings Peer(params string[] args) => PeerServeCommand.Parse(OptionParser.Parse(new PeerServeCommand().Options, args));
}
