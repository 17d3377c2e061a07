using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Nbd.Client;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Client;

public sealed class NbdUriTests
{
    [Theory]
    [InlineData("nbd://example.com:10810/disk", "example.com", 10810, "disk")]
    [InlineData("nbd://example.com/", "example.com", 10809, "")]
    [InlineData("nbd://example.com", "example.com", 10809, "")]
    [InlineData("nbd://example.com:", "example.com", 10809, "")]
    [InlineData("nbd://example.com//disk", "example.com", 10809, "/disk")]
    [InlineData("nbd://example.com/a/../b", "example.com", 10809, "a/../b")]
    [InlineData("nbd://example.com/hello%20world", "example.com", 10809, "hello world")]
    [InlineData("nbd://example.com/a+b%2fc", "example.com", 10809, "a+b/c")]
    [InlineData("nbd://example.com/gr%C3%BC%C3%9Fe", "example.com", 10809, "grüße")]
    [InlineData("nbd://example.com/100%25", "example.com", 10809, "100%")]
    [InlineData("NBD://example.com/x", "example.com", 10809, "x")]
    [InlineData("nbd:///x", "localhost", 10809, "x")]
    [InlineData("nbd://[::1]:99/x", "::1", 99, "x")]
    [InlineData("nbd://[fe80::1]", "fe80::1", 10809, "")]
    public void A_tcp_uri_names_host_port_and_export(string uri, string host, int port, string export)
    {
        var address = NbdUri.Parse(uri);
        Assert.Equal((null, host, port, export), (address.SocketPath, address.Host, address.Port, address.ExportName));
        Assert.Equal(address.ToString(), NbdUri.Parse(address.ToString()).ToString());
    }

    [Theory]
    [InlineData("nbd+unix:///?socket=/tmp/s", "/tmp/s", "")]
    [InlineData("nbd+unix://?socket=/tmp/s", "/tmp/s", "")]
    [InlineData("nbd+unix:///disk?socket=s", "s", "disk")]
    [InlineData("nbd+unix:///a%3fb?socket=/tmp/a%20%26b", "/tmp/a &b", "a?b")]
    [InlineData("nbd+unix:///?socket=%00/abstract", "\0/abstract", "")]
    public void A_unix_uri_names_socket_and_export(string uri, string socket, string export)
    {
        var address = NbdUri.Parse(uri);
        Assert.Equal((socket, null, export), (address.SocketPath, address.Host, address.ExportName));
        Assert.Equal(socket, NbdUri.Parse(address.ToString()).SocketPath);
        Assert.Equal(export, NbdUri.Parse(address.ToString()).ExportName);
    }

    [Theory]
    [InlineData("nbd+vsock://3", 3u, 10809u, "")]
    [InlineData("nbd+vsock://2:4294967294/a%20b", 2u, 4294967294u, "a b")]
    [InlineData("nbds+vsock://1:5/x", 1u, 5u, "x")]
    public void A_vsock_uri_names_machine_port_and_export(string uri, uint machine, uint port, string export)
    {
        var address = NbdUri.Parse(uri);
        Assert.Equal(((machine, port), export), (address.Vsock!.Value, address.ExportName));
        Assert.Equal((null, null), (address.Host, address.SocketPath));
        Assert.Equal(address.ToString(), NbdUri.Parse(address.ToString()).ToString());
        Assert.Equal(uri.StartsWith("nbds", StringComparison.Ordinal), address.Tls is not null);
    }

    [Theory]
    [InlineData("nbd+vsock://")]
    [InlineData("nbd+vsock://host")]
    [InlineData("nbd+vsock://4294967296")]
    [InlineData("nbd+vsock://3:-1")]
    [InlineData("http://example.com")]
    [InlineData("nbd:example.com:10809")]
    [InlineData("nbd://-oProxyCommand=x/")]
    [InlineData("nbd://%2doption/")]
    [InlineData("nbd://host:0/")]
    [InlineData("nbd://host:65536/")]
    [InlineData("nbd://host:+80/")]
    [InlineData("nbd://host:8o/")]
    [InlineData("nbd://host:999999999999/")]
    [InlineData("nbd://:10809/")]
    [InlineData("nbd://a:b:c/")]
    [InlineData("nbd://[::1/")]
    [InlineData("nbd://[::1]x/")]
    [InlineData("nbd://[127.0.0.1]/")]
    [InlineData("nbd://ho%20st/")]
    [InlineData("nbd://ho%0ast/")]
    [InlineData("nbd://host/%")]
    [InlineData("nbd://host/%4")]
    [InlineData("nbd://host/%zz")]
    [InlineData("nbd://host/%ff")]
    [InlineData("nbd://host/a%00b")]
    [InlineData("nbd://host/a#b")]
    [InlineData("nbd://host/?socket=/s")]
    [InlineData("nbd://host/?colour=red")]
    [InlineData("nbd+unix:///x")]
    [InlineData("nbd+unix:///?socket=")]
    [InlineData("nbd+unix:///?socket=/a&socket=/b")]
    [InlineData("nbd+unix:///?socket=/a%00b")]
    [InlineData("nbd+unix:///?socket=%00")]
    [InlineData("nbd+unix://host/?socket=/a")]
    [InlineData("nbd+unix:///?socket=/a&x-more=1")]
    [InlineData("nbd://me@example.com")]
    [InlineData("nbds://me@example.com/?tls-username=you")]
    [InlineData("nbd://example.com/?tls-type=psk")]
    [InlineData("nbd+unix:///?socket=/s&tls-certificates=/c")]
    [InlineData("nbds://example.com/?tls-verify-peer=2")]
    [InlineData("nbds://example.com/?tls-verify-peer=0&tls-verify-peer=1")]
    [InlineData("nbds://example.com/?tls-psk-file=a%00b")]
    [InlineData("nbds://example.com/?tls-priority=NORMAL")]
    [InlineData("nbds://-x@example.com/?socket=/s")]
    public void A_bad_uri_is_refused(string uri) =>
        Assert.Equal(BlockErrorKind.InvalidRequest, Assert.Throws<BlockException>(() => NbdUri.Parse(uri)).Kind);

    [Theory]
    [InlineData("nbds://h/x", null, null, null, null, null, true)]
    [InlineData("nbds://me@h:1/x?tls-psk-file=/k.psk", null, null, "/k.psk", "me", null, true)]
    [InlineData("nbds://h/?tls-type=psk&tls-username=a%40b&tls-psk-file=k", "psk", null, "k", "a@b", null, true)]
    [InlineData("nbds+unix:///x?socket=/s&tls-certificates=/c%20d&tls-hostname=h.example", null, "/c d", null, null, "h.example", true)]
    [InlineData("nbds://[::1]/?tls-verify-peer=0", null, null, null, null, null, false)]
    public void An_encrypted_uri_says_with_what(string uri, string? type, string? certificates, string? keys, string? user, string? host, bool verifies)
    {
        foreach (var address in new[] { NbdUri.Parse(uri), NbdUri.Parse(NbdUri.Parse(uri).ToString()), NbdUri.Parse(uri).WithExport("y") })
        {
            var tls = address.Tls!;
            Assert.Equal((type, certificates, keys, user), (tls.Type, tls.CertificateDirectory, tls.PskFile, tls.User));
            Assert.Equal((host, verifies), (address.TlsHostName, tls.VerifyPeer));
        }
    }

    [Fact]
    public void Export_names_may_have_4096_bytes_and_no_more()
    {
        Assert.Equal(4096, NbdUri.Parse("nbd://h/" + new string('a', 4096)).ExportName.Length);
        Assert.Equal(BlockErrorKind.InvalidRequest, Assert.Throws<BlockException>(() => NbdUri.Parse("nbd://h/" + new string('a', 4097))).Kind);
        Assert.Equal(BlockErrorKind.InvalidRequest, Assert.Throws<BlockException>(() => NbdUri.Parse("nbd+unix:///?socket=/" + new string('a', 200))).Kind);
    }

    [Theory]
    [InlineData("uri=nbd://h:1/x", "nbd://h:1/x")]
    [InlineData("uri=nbd://h:1,export=x", "nbd://h:1/x")]
    [InlineData("server.type=unix,server.path=/s,export=x", "nbd+unix:///x?socket=/s")]
    [InlineData("server.type=inet,server.host=h,server.port=5", "nbd://h:5")]
    [InlineData("server.type=inet,server.host=::1,server.port=5", "nbd://[::1]:5")]
    [InlineData("path=/s,export=x", "nbd+unix:///x?socket=/s")]
    [InlineData("host=h,port=7,export=/x", "nbd://h:7//x")]
    [InlineData("host=h", "nbd://h:10809")]
    [InlineData("host=h,read-only=on,node-name=n,open-timeout=3", "nbd://h:10809")]
    public void Options_name_an_address(string options, string uri) =>
        Assert.Equal(uri, NbdAddress.FromOptions(NodeOptions.ParseKeyValues("driver=nbd," + options)).ToString());

    [Theory]
    [InlineData("", "'uri', 'server.type'")]
    [InlineData("uri=nbd://h,colour=red", "'colour'")]
    [InlineData("uri=nbd://h/a,export=b", "different exports")]
    [InlineData("uri=nbd://h,port=1", "'port'")]
    [InlineData("path=/s,host=h", "'host'")]
    [InlineData("host=h,path=/s", "'host'")]
    [InlineData("server.type=unix", "'server.path'")]
    [InlineData("server.path=/s", "'server.type'")]
    [InlineData("server.type=inet,server.path=/s", "'server.path'")]
    [InlineData("server.type=unix,server.path=/s,server.port=1", "'server.port'")]
    [InlineData("server.type=inet,server.port=1", "'server.host'")]
    [InlineData("server.type=fd", "'fd'")]
    [InlineData("host=-x", "'-x'")]
    [InlineData("host=h,port=x", "'x'")]
    public void Contradictory_and_unknown_options_are_refused_by_name(string options, string words)
    {
        var e = Assert.Throws<BlockException>(() => NbdAddress.FromOptions(NodeOptions.ParseKeyValues("driver=nbd," + options)));
        Assert.Equal(BlockErrorKind.InvalidRequest, e.Kind);
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("host=h,tls-creds=x")]
    public void Options_for_what_we_do_not_do_are_unsupported(string options) =>
        Assert.Equal(
            BlockErrorKind.Unsupported,
            Assert.Throws<BlockException>(() => NbdAddress.FromOptions(NodeOptions.ParseKeyValues(options))).Kind);

    [Theory]
    [InlineData("x")]
    [InlineData("-1")]
    [InlineData("99999999")]
    public void An_open_timeout_is_a_number_of_seconds(string value) =>
        Assert.Throws<BlockException>(() => NbdClientOptions.FromOptions(new NodeOptions { [NbdClientOptions.OpenTimeoutOption] = value }));

    [Fact]
    public void Options_say_how_many_connections_and_how_long_to_wait_for_them()
    {
        var options = NbdClientOptions.FromOptions(NodeOptions.ParseKeyValues("driver=nbd,host=h,connections=7,reconnect-delay=5"));
        Assert.Equal((7, TimeSpan.FromSeconds(5)), (options.Connections, options.ReconnectDelay));
        foreach (var wrong in new[] { "connections=0", "connections=1000", "reconnect-delay=x" })
        {
            Assert.Throws<BlockException>(() => NbdClientOptions.FromOptions(NodeOptions.ParseKeyValues(wrong)));
        }
    }
}
