namespace Platter.Bench.Measuring;

/// <summary>TLS of a server that is measured: certificates on both sides, or a pre-shared key.</summary>
/// <param name="Directory">Where <c>platter nbd certs</c> has put everything.</param>
/// <param name="ByCertificates">Otherwise by keys.</param>
internal sealed record NbdTls(string Directory, bool ByCertificates)
{
    /// <summary>What tells our server.</summary>
    public string[] ForPlatter => ByCertificates ? [$"--tls-certificates={Directory}", "--tls-verify-peer"] : [$"--tls-psk={KeyFile}"];

    /// <summary>What tells QEMU's.</summary>
    public string[] ForQemuNbd => ["--object", $"{QemuType},id=tls0,endpoint=server,dir={Directory}", "--tls-creds", "tls0"];

    /// <summary>What tells nbdkit.</summary>
    public string[] ForNbdkit => ByCertificates ? ["--tls=require", $"--tls-certificates={Directory}", "--tls-verify-peer"] : ["--tls=require", $"--tls-psk={KeyFile}"];

    private string KeyFile => Path.Combine(Directory, "keys.psk");

    private string QemuType => ByCertificates ? "tls-creds-x509" : "tls-creds-psk";

    /// <summary>Makes the credentials.</summary>
    public static NbdTls Make(BenchContext bench, bool byCertificates)
    {
        var directory = Path.Combine(bench.Scratch, "tls");
        if (!System.IO.Directory.Exists(directory))
        {
            bench.Tools.Run(bench.Platter, "nbd", "certs", directory);
        }

        return new(directory, byCertificates);
    }

    /// <summary>libnbd's and our address of a server.</summary>
    public string Uri(string socket) =>
        ByCertificates ? $"nbds+unix:///?socket={socket}&tls-certificates={Directory}" : $"nbds+unix://qemu@/?socket={socket}&tls-psk-file={KeyFile}";

    /// <summary>The same for QEMU's tools.</summary>
    public string[] ForQemuImg(string socket) =>
        ["--object", $"{QemuType},id=tls0,endpoint=client,dir={Directory}", "--image-opts", $"driver=raw,file.driver=nbd,file.path={socket},file.tls-creds=tls0{(ByCertificates ? ",file.tls-hostname=localhost" : string.Empty)}"];
}
