using System.Text;
using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Nbd.Tls;

/// <summary>How a client encrypts, as URIs and command lines say it (the NBD project's <c>uri.md</c>, with libnbd's parameters for files).</summary>
public sealed record NbdClientTlsParameters
{
    /// <summary><c>tls-type</c>: x509 or psk; null for psk if there is a file of keys, and x509 otherwise.</summary>
    public string? Type { get; init; }

    /// <summary><c>tls-certificates</c>: a directory of credentials; null for what the host trusts and no certificate of our own.</summary>
    public string? CertificateDirectory { get; init; }

    /// <summary><c>tls-psk-file</c>: a file of pre-shared keys.</summary>
    public string? PskFile { get; init; }

    /// <summary>Who we are (the user name of a URI); null for who runs this process, if that one has a key, and <see cref="NbdClientKey.DefaultUser"/> otherwise. For keys only.</summary>
    public string? User { get; init; }

    /// <summary><c>tls-verify-peer</c>: whether a server with a certificate must prove who it is.</summary>
    public bool VerifyPeer { get; init; } = true;

    /// <summary>Reads the credentials.</summary>
    /// <param name="tls">Who does the work.</param>
    /// <exception cref="BlockException">The parameters contradict each other, ask for what we do not do, or name files that are missing or broken.</exception>
    public NbdClientTls Load(TlsLibrary tls)
    {
        switch (Type ?? (PskFile is null ? "x509" : "psk"))
        {
            case "psk":
                return CertificateDirectory is null ? new NbdClientKey(tls, OwnKey()) : throw Contradiction();
            case "x509":
                var options = new NbdClientCertificateOptions { VerifyPeer = VerifyPeer, Library = tls };
                return PskFile is not null ? throw Contradiction()
                    : CertificateDirectory is { } directory ? NbdClientCertificates.Load(directory, options) : NbdClientCertificates.FromHost(options);
            case "anon":
                throw new BlockException(BlockErrorKind.Unsupported, "anonymous TLS proves nothing to anybody and is not supported: use certificates or pre-shared keys");
            default:
                throw Invalid($"tls-type '{SafeText.Clean(Type!, 64)}' is neither x509 nor psk");
        }
    }

    private PreSharedKey OwnKey()
    {
        var path = PskFile ?? throw Invalid("TLS with a pre-shared key needs a file of keys (tls-psk-file)");
        var keys = PreSharedKeys.Load(path);
        return (User is null ? keys.Find(Encoding.UTF8.GetBytes(Environment.UserName)) : null) ?? keys.Get(path, User ?? NbdClientKey.DefaultUser);
    }

    private static BlockException Contradiction() => Invalid("TLS with certificates and TLS with pre-shared keys exclude each other");

    private static BlockException Invalid(string problem) => new(BlockErrorKind.InvalidRequest, problem);
}
