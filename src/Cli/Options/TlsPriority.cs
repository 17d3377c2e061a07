using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Cli.Options;

/// <summary>The <c>priority</c> of QEMU's credentials, in GnuTLS's language ("NORMAL:-VERS-TLS1.3").</summary>
/// <remarks>What it may leave us with: versions 1.2 and 1.3, and whether keys must be long. Words that forbid what we never do are accepted; those that ask for it, or choose
/// in ways that we cannot, are refused: nothing is silently weaker than it was asked for.</remarks>
internal static class TlsPriority
{
    private static readonly string[] s_base = ["NORMAL", "PERFORMANCE", "PFS", "SECURE128", "@SYSTEM", "@QEMU", "@QEMU,SYSTEM", "@LIBNBD,SYSTEM", "@NBDKIT,SYSTEM"];
    private static readonly string[] s_strong = ["SECURE192", "SECURE256"];

    // Of what we do anyway.
    private static readonly string[] s_done =
    [
        "+PSK", "+ECDHE-PSK", "+DHE-PSK", "+ECDHE-ECDSA", "+ECDHE-RSA", "+DHE-RSA", "+AEAD", "+SIGN-ALL", "+CTYPE-X509", "%SERVER_PRECEDENCE", "%SAFE_RENEGOTIATION",
        "%NO_TICKETS",
    ];

    // Of what we never do.
    private static readonly string[] s_never =
    [
        "VERS-SSL3.0", "VERS-TLS1.0", "VERS-TLS1.1", "VERS-DTLS-ALL", "VERS-DTLS0.9", "VERS-DTLS1.0", "VERS-DTLS1.2", "RSA", "ANON-DH", "ANON-ECDH", "RSA-PSK", "SRP", "SRP-RSA", "SRP-DSS", "DHE-DSS",
        "ARCFOUR-128", "3DES-CBC", "DES-CBC", "AES-128-CBC", "AES-256-CBC", "CAMELLIA-128-CBC", "CAMELLIA-256-CBC", "NULL", "MD5", "SHA1", "SHA256", "SHA384", "SIGN-RSA-MD5", "SIGN-RSA-SHA1",
        "SIGN-ECDSA-SHA1", "SIGN-DSA-SHA1", "CTYPE-OPENPGP", "COMP-ALL", "COMP-DEFLATE",
    ];

    /// <summary>What it says.</summary>
    /// <param name="text">Null for nothing.</param>
    /// <exception cref="UsageException">It cannot be done, or leaves nothing.</exception>
    public static TlsProfile Parse(string? text)
    {
        var profile = TlsProfile.Default;
        var words = text?.Split(':') ?? [];
        for (var i = 0; i < words.Length; i++)
        {
            profile = Apply(profile, words[i].Trim(), isFirst: i == 0) ?? throw new UsageException(
                $"--object: priority '{SafeText.Clean(words[i], 64)}' is not supported: TLS 1.2 and 1.3 with forward secrecy and authenticated encryption are used");
        }

        return profile.Versions != TlsVersions.None ? profile : throw new UsageException($"--object: priority '{SafeText.Clean(text!, 128)}' leaves no version of TLS");
    }

    private static TlsProfile? Apply(TlsProfile profile, string word, bool isFirst)
    {
        var name = word.Length > 0 ? word[1..] : string.Empty;
        var isMinus = word.StartsWith('-') || word.StartsWith('!');
        return s_base.Contains(word) ? profile
            : s_strong.Contains(word) ? profile with { IsStrong = true }
            : isFirst ? null
            : s_done.Contains(word) || (isMinus && s_never.Contains(name)) ? profile
            : VersionsOf(name) is not { } versions ? null
            : isMinus ? profile with { Versions = profile.Versions & ~versions }
            : word.StartsWith('+') ? profile with { Versions = profile.Versions | versions } : null;
    }

    private static TlsVersions? VersionsOf(string name) => name switch
    {
        "VERS-TLS1.2" => TlsVersions.Tls12,
        "VERS-TLS1.3" => TlsVersions.Tls13,

        // To add all of them would add old ones, too; that they are not had is no loss.
        "VERS-ALL" or "VERS-TLS-ALL" => TlsVersions.All,
        _ => null,
    };
}
