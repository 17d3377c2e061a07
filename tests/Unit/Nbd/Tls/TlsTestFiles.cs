using System.Net.Security;
using System.Security.Authentication;
using Platter.Core.Tls;
using Platter.Host.Tls;
using Platter.Nbd.Tls;
using Platter.TestKit;

namespace Platter.Tests.Unit.Nbd.Tls;

/// <summary>Credentials for tests, made once.</summary>
internal static class TlsTestFiles
{
    private static readonly TempFolder s_folder = new("tls");
    private static readonly Lazy<string> s_ours = new(() => Make("ours"));
    private static readonly Lazy<string> s_others = new(() => Make("others"));

    /// <summary>Server, client and keys that belong together.</summary>
    public static string Ours => s_ours.Value;

    /// <summary>The same of another authority, with other keys.</summary>
    public static string Others => s_others.Value;

    public static string KeyFile => Path.Combine(Ours, "keys.psk");

    /// <summary>Our server.</summary>
    public static NbdServerCertificates Server(NbdServerCertificateOptions? options = null) =>
        NbdServerCertificates.Load(Ours, options ?? new() { VerifyPeer = false, Library = OpenSslLibrary.Instance });

    /// <summary>Our client.</summary>
    public static NbdClientCertificates Client(TlsLibrary? library = null, TlsVersions versions = TlsVersions.All) =>
        NbdClientCertificates.Load(Ours, new() { Profile = new(versions), Library = library });

    /// <summary>A directory with some of the files of another one.</summary>
    public static string Copy(string from, params string[] names)
    {
        var to = s_folder[Guid.NewGuid().ToString("N")];
        Directory.CreateDirectory(to);
        foreach (var name in names)
        {
            File.Copy(Path.Combine(from, name), Path.Combine(to, name));
        }

        return to;
    }

    /// <summary>A client of TLS that checks nothing.</summary>
    public static SslClientAuthenticationOptions Careless(SslProtocols versions = SslProtocols.None) => new()
    {
        TargetHost = "localhost",
        EnabledSslProtocols = versions,
        RemoteCertificateValidationCallback = static (_, _, _, _) => true,
    };

    private static string Make(string name)
    {
        var directory = s_folder[name];
        NbdTestCredentials.Make(directory, ["disks.example.org"], ["qemu", "rich"], TimeSpan.FromDays(30));
        return directory;
    }
}
