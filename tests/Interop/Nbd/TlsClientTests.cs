using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

/// <summary>Our client's TLS against GnuTLS: qemu-nbd and nbdkit, by URI and by QEMU's options.</summary>
public sealed class TlsClientTests : IDisposable
{
    private readonly TempFolder _folder = new("tls");
    private readonly TlsCredentials _credentials;
    private readonly string _image;

    public TlsClientTests()
    {
        _credentials = new(_folder);
        var bytes = new byte[3 << 20];
        new Random(1).NextBytes(bytes);
        _image = _folder.Write("disk.raw", bytes);
    }

    /// <summary>The server, and whether by certificates.</summary>
    public static TheoryData<string, bool> Servers => new() { { "qemu-nbd", true }, { "qemu-nbd", false }, { "nbdkit", true }, { "nbdkit", false }, { "platter", true }, { "platter", false } };

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Servers))]
    public void A_uri_that_names_credentials_is_read(string tool, bool certificates)
    {
        using var server = Serve(tool, certificates);
        PlatterCli.RunChecked("compare", "-f", "raw", "-F", "raw", UriOf(server, certificates), _image);
        PlatterCli.RunChecked("convert", "-f", "raw", "-O", "raw", UriOf(server, certificates), _folder["copy"]);
        ToolRunner.RunChecked("cmp", _image, _folder["copy"]);
    }

    [Theory]
    [MemberData(nameof(Servers))]
    public void Options_that_name_an_object_are_as_good(string tool, bool certificates)
    {
        using var server = Serve(tool, certificates);
        string[] arguments =
        [
            "convert", "--object", _credentials.Object("client", certificates), "--image-opts", $"driver=nbd,path={server.Socket},tls-creds=tls0{(certificates ? ",tls-hostname=localhost" : string.Empty)}",
            "-O", "raw", _folder["copy"],
        ];
        PlatterCli.RunChecked(arguments);
        ToolRunner.RunChecked("cmp", _image, _folder["copy"]);
    }

    [Fact]
    public void A_server_that_is_not_who_it_should_be_is_refused()
    {
        var others = new TlsCredentials(_folder, "others");
        using var server = Serve("qemu-nbd", true);
        Assert.Contains("is not signed by an authority of", PlatterCli.Run("info", others.CertificateUri(server.Socket)).Expect(1).Error, StringComparison.Ordinal);
        Assert.Contains(
            "and not for 'example.org'", PlatterCli.Run("info", $"{_credentials.CertificateUri(server.Socket)}&tls-hostname=example.org").Expect(1).Error, StringComparison.Ordinal);
        PlatterCli.RunChecked("info", $"{_credentials.CertificateUri(server.Socket)}&tls-hostname=disks.example.org");
        using var keyed = Serve("qemu-nbd", false);
        Assert.Contains("it may not accept our credentials", PlatterCli.Run("info", others.KeyUri(keyed.Socket)).Expect(1).Error, StringComparison.Ordinal);
        Assert.Contains("there is no key of 'poor'", PlatterCli.Run("info", _credentials.KeyUri(keyed.Socket, "poor")).Expect(1).Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_server_without_tls_is_no_way_out()
    {
        using var server = NbdServer.QemuNbd(_image, "raw", _folder);
        foreach (var uri in new[] { _credentials.CertificateUri(server.Socket), _credentials.KeyUri(server.Socket) })
        {
            PlatterCli.Run("info", uri).Expect(1);
        }

        PlatterCli.Run("info", "--object", _credentials.Object("client", true), "--image-opts", $"driver=nbd,path={server.Socket},tls-creds=tls0").Expect(1);
        PlatterCli.Run("info", "--image-opts", $"driver=nbd,path={server.Socket},tls-creds=tls0").Expect(1);
        PlatterCli.Run("info", "--image-opts", $"driver=nbd,path={server.Socket},tls-hostname=localhost").Expect(1);
    }

    [Fact]
    public void An_image_does_not_choose_our_credentials()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var server = Serve("qemu-nbd", true);
        var overlay = _folder["overlay.qcow2"];
        ToolRunner.RunChecked(
            "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", $"json:{{\"driver\":\"nbd\",\"path\":\"{server.Socket}\",\"tls-creds\":\"tls0\"}}", overlay, "1M");
        var result = PlatterCli.Run("map", "--object", _credentials.Object("client", true), overlay).Expect(1);
        Assert.Contains("an image cannot choose whose credentials are shown to a server", result.Error, StringComparison.Ordinal);
    }

    private NbdServer Serve(string tool, bool certificates) => tool switch
    {
        "qemu-nbd" => _credentials.QemuNbd(_image, "raw", _folder, certificates),
        "nbdkit" => _credentials.Nbdkit(_folder, certificates, "file", _image),
        _ => NbdServer.Start(
            PlatterCli.Command(
                ["serve", "-f", "raw", "-k", "{socket}", .. certificates ? (string[])[$"--tls-certificates={_credentials.Directory}", "--tls-verify-peer"] : [$"--tls-psk={_credentials.KeyFile}"], _image]),
            _folder),
    };

    private string UriOf(NbdServer server, bool certificates) => certificates ? _credentials.CertificateUri(server.Socket) : _credentials.KeyUri(server.Socket);
}
