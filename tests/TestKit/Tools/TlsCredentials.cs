using Platter.Nbd.Tls;

namespace Platter.TestKit;

/// <summary>Credentials for one test, and how servers and clients are told of them.</summary>
public sealed class TlsCredentials
{
    /// <summary>Makes an authority, certificates for localhost and disks.example.org, and keys of qemu and rich.</summary>
    public TlsCredentials(TempFolder folder, string name = "tls")
    {
        Directory = folder[name];
        NbdTestCredentials.Make(Directory, ["disks.example.org"], ["qemu", "rich"], TimeSpan.FromDays(30));
    }

    /// <summary>Where the files are, named as everybody looks for them.</summary>
    public string Directory { get; }

    /// <summary>The file of pre-shared keys.</summary>
    public string KeyFile => this["keys.psk"];

    /// <summary>One of the files.</summary>
    public string this[string file] => Path.Combine(Directory, file);

    /// <summary>A user's key in hexadecimal digits.</summary>
    public string KeyOf(string user) => File.ReadLines(KeyFile).Single(line => line.StartsWith($"{user}:", StringComparison.Ordinal))[(user.Length + 1)..];

    /// <summary>libnbd's and our URI of a server on a unix socket, with certificates.</summary>
    public string CertificateUri(string socket) => $"nbds+unix:///?socket={socket}&tls-certificates={Directory}";

    /// <summary>libnbd's and our URI of a server on a unix socket, with a key.</summary>
    public string KeyUri(string socket, string user = "qemu") => $"nbds+unix://{user}@/?socket={socket}&tls-psk-file={KeyFile}";

    /// <summary>QEMU's and our object.</summary>
    /// <param name="endpoint">server or client.</param>
    /// <param name="certificates">Whether certificates; otherwise keys.</param>
    /// <param name="more">More of its options, each with a comma before it.</param>
    public string Object(string endpoint, bool certificates, string more = "") => $"tls-creds-{(certificates ? "x509" : "psk")},id=tls0,endpoint={endpoint},dir={Directory}{more}";

    /// <summary>qemu-nbd with TLS: clients must have a certificate, or a key.</summary>
    public NbdServer QemuNbd(string image, string format, TempFolder folder, bool certificates, params string[] more) =>
        NbdServer.QemuNbd(image, format, folder, ["--object", Object("server", certificates), "--tls-creds", "tls0", .. more]);

    /// <summary>nbdkit with TLS: clients must have a certificate, or a key.</summary>
    public NbdServer Nbdkit(TempFolder folder, bool certificates, params string[] pluginAndParameters)
    {
        string[] tls = certificates ? ["--tls=require", $"--tls-certificates={Directory}", "--tls-verify-peer"] : ["--tls=require", $"--tls-psk={KeyFile}"];
        return NbdServer.Nbdkit(folder, [.. tls, .. pluginAndParameters]);
    }
}
