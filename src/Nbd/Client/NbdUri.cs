using System.Text;
using System.Text.Unicode;
using Platter.Core.Errors;
using Platter.Nbd.Protocol;
using Platter.Nbd.Tls;

namespace Platter.Nbd.Client;

/// <summary>NBD URIs (the NBD project's <c>uri.md</c>): <c>nbd://HOST:PORT/EXPORT</c> and <c>nbd+unix:///EXPORT?socket=PATH</c> and <c>nbd+vsock://CID:PORT/EXPORT</c>; with <c>nbds</c> encrypted, with the
/// parameters <c>tls-type</c>, <c>tls-certificates</c>, <c>tls-psk-file</c>, <c>tls-username</c>, <c>tls-hostname</c> and <c>tls-verify-peer</c>.</summary>
/// <remarks>Parsed strictly after RFC 3986 and by hand: a general URI class would normalise the path, which is the export's name.</remarks>
public static class NbdUri
{
    private const int MaxChars = 32 * 1024;

    /// <summary>Parses a URI.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: something is wrong with it.</exception>
    public static NbdAddress Parse(string uri)
    {
        if (uri.Length > MaxChars)
        {
            throw Invalid(uri, $"is longer than {MaxChars} characters");
        }

        var colon = uri.IndexOf("://", StringComparison.Ordinal);
        var scheme = colon < 0 ? string.Empty : uri[..colon].ToLowerInvariant();
        var isUnix = scheme switch
        {
            "nbd" or "nbds" => false,
            "nbd+unix" or "nbds+unix" => true,
            "nbd+vsock" or "nbds+vsock" => false,
            _ => throw Invalid(uri, "is not an NBD URI: expected nbd://, nbd+unix://, nbd+vsock://, nbds://, nbds+unix:// or nbds+vsock://"),
        };

        if (uri.Contains('#', StringComparison.Ordinal))
        {
            throw Invalid(uri, "has a fragment ('#'); write %23 inside a name");
        }

        var rest = uri[(colon + 3)..];
        var queryAt = rest.IndexOf('?', StringComparison.Ordinal);
        var query = queryAt < 0 ? string.Empty : rest[(queryAt + 1)..];
        var hierarchy = queryAt < 0 ? rest : rest[..queryAt];
        var slash = hierarchy.IndexOf('/', StringComparison.Ordinal);
        var authority = slash < 0 ? hierarchy : hierarchy[..slash];
        var export = slash < 0 ? string.Empty : Decode(uri, hierarchy[(slash + 1)..], "export name");
        var parameters = ParseQuery(uri, query, isUnix, isEncrypted: scheme.StartsWith("nbds", StringComparison.Ordinal));
        var at = authority.LastIndexOf('@');
        if (at >= 0)
        {
            parameters = parameters.Tls is { User: null } tls
                ? parameters with { Tls = tls with { User = Decode(uri, authority[..at], "user name") } }
                : throw Invalid(uri, parameters.Tls is null ? "has a user name, which belongs to TLS: use nbds:// or nbds+unix://" : "has two user names");
            authority = authority[(at + 1)..];
        }

        if (isUnix)
        {
            return authority.Length == 0
                ? NbdAddress.ForSocket(parameters.Socket ?? throw Invalid(uri, "needs a parameter '?socket=PATH'"), export).WithTls(parameters.Tls, parameters.HostName)
                : throw Invalid(uri, "names a host, but a unix socket has none: write nbd+unix:///EXPORT?socket=PATH");
        }

        if (scheme.EndsWith("+vsock", StringComparison.Ordinal))
        {
            return ParseVsock(uri, authority, export).WithTls(parameters.Tls, parameters.HostName);
        }

        var (host, port) = ParseAuthority(uri, authority);
        return NbdAddress.ForHost(host, port, export).WithTls(parameters.Tls, parameters.HostName);
    }

    /// <summary>The URI of an address; <see cref="Parse"/> gives back an equal address.</summary>
    public static string Format(NbdAddress address)
    {
        var export = address.ExportName.Length == 0 ? string.Empty : $"/{Encode(address.ExportName)}";
        var query = new StringBuilder();
        if (address.SocketPath is { } path)
        {
            Add("socket", path);
        }

        if (address.Tls is { } tls)
        {
            Add("tls-type", tls.Type);
            Add("tls-certificates", tls.CertificateDirectory);
            Add("tls-psk-file", tls.PskFile);
            Add("tls-username", tls.User);
            Add("tls-hostname", address.TlsHostName);
            Add("tls-verify-peer", tls.VerifyPeer ? null : "0");
        }

        var scheme = address.Tls is null ? "nbd" : "nbds";
        if (address.SocketPath is not null)
        {
            return $"{scheme}+unix://{export}{query}";
        }

        if (address.Vsock is { } vsock)
        {
            return $"{scheme}+vsock://{vsock.ContextId}:{vsock.Port}{(query.Length > 0 && export.Length == 0 ? "/" : export)}{query}";
        }

        var host = address.Host!.Contains(':', StringComparison.Ordinal) ? $"[{address.Host}]" : Encode(address.Host);
        return $"{scheme}://{host}:{address.Port}{(query.Length > 0 && export.Length == 0 ? "/" : export)}{query}";

        void Add(string key, string? value)
        {
            if (value is not null)
            {
                query.Append(query.Length == 0 ? '?' : '&').Append(key).Append('=').Append(Encode(value));
            }
        }
    }

    private static NbdAddress ParseVsock(string uri, string authority, string export)
    {
        if (authority.Length == 0)
        {
            throw Invalid(uri, "names no machine: write nbd+vsock://CID:PORT/EXPORT; 2 is the host, 1 this machine itself");
        }

        var colon = authority.IndexOf(':', StringComparison.Ordinal);
        var machine = NbdAddress.ParseVsock(colon < 0 ? authority : authority[..colon]);
        return colon < 0 || colon == authority.Length - 1
            ? NbdAddress.ForVsock(machine, exportName: export)
            : NbdAddress.ForVsock(machine, NbdAddress.ParseVsock(authority[(colon + 1)..]), export);
    }

    private static (string Host, int Port) ParseAuthority(string uri, string authority)
    {
        string host;
        string port;
        if (authority.StartsWith('['))
        {
            var close = authority.IndexOf(']', StringComparison.Ordinal);
            if (close < 0 || (close + 1 < authority.Length && authority[close + 1] != ':'))
            {
                throw Invalid(uri, "has a malformed IPv6 address");
            }

            host = authority[1..close];
            if (!System.Net.IPAddress.TryParse(host, out var ip) || ip.AddressFamily != System.Net.Sockets.AddressFamily.InterNetworkV6)
            {
                throw Invalid(uri, $"has a malformed IPv6 address '{SafeText.Clean(host, 64)}'");
            }

            port = close + 1 < authority.Length ? authority[(close + 2)..] : string.Empty;
        }
        else
        {
            var colon = authority.IndexOf(':', StringComparison.Ordinal);
            host = Decode(uri, colon < 0 ? authority : authority[..colon], "host");
            port = colon < 0 ? string.Empty : authority[(colon + 1)..];
            if (host.Contains(':', StringComparison.Ordinal))
            {
                throw Invalid(uri, "has a colon in its host name");
            }
        }

        // Without an authority the peers take the local host; RFC 3986 allows "host:" for the default port.
        return (authority.Length == 0 ? "localhost" : host, port.Length == 0 ? NbdProtocol.DefaultPort : NbdAddress.ParsePort(port));
    }

    private static Parameters ParseQuery(string uri, string query, bool isUnix, bool isEncrypted)
    {
        var given = new Dictionary<string, string>();
        foreach (var part in query.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = part.IndexOf('=', StringComparison.Ordinal);
            var key = Decode(uri, equals < 0 ? part : part[..equals], "parameter");
            var value = equals < 0 ? string.Empty : Decode(uri, part[(equals + 1)..], "parameter");
            var isTls = key is "tls-type" or "tls-certificates" or "tls-psk-file" or "tls-username" or "tls-hostname" or "tls-verify-peer";
            if (isTls && !isEncrypted)
            {
                // Whoever names credentials wants them used.
                throw Invalid(uri, $"has the parameter '{key}', but asks for no encryption: use nbds:// or nbds+unix://");
            }

            if (!isTls && (key != "socket" || !isUnix))
            {
                throw Invalid(uri, $"has the unknown parameter '{SafeText.Clean(key, 64)}'");
            }

            if (value.Contains('\0', StringComparison.Ordinal) && isTls)
            {
                throw Invalid(uri, $"has a NUL character in its parameter '{key}'");
            }

            if (!given.TryAdd(key, value))
            {
                throw Invalid(uri, $"has the parameter '{key}' twice");
            }
        }

        var tls = !isEncrypted ? null : new NbdClientTlsParameters
        {
            Type = given.GetValueOrDefault("tls-type"),
            CertificateDirectory = given.GetValueOrDefault("tls-certificates"),
            PskFile = given.GetValueOrDefault("tls-psk-file"),
            User = given.GetValueOrDefault("tls-username"),
            VerifyPeer = given.GetValueOrDefault("tls-verify-peer") switch
            {
                null or "1" => true,
                "0" => false,
                var other => throw Invalid(uri, $"has the parameter tls-verify-peer={SafeText.Clean(other, 64)}: expected 0 or 1"),
            },
        };
        return new(given.GetValueOrDefault("socket"), tls, given.GetValueOrDefault("tls-hostname"));
    }

    private readonly record struct Parameters(string? Socket, NbdClientTlsParameters? Tls, string? HostName);

    private static string Decode(string uri, string text, string what)
    {
        if (!text.Contains('%', StringComparison.Ordinal))
        {
            return text;
        }

        var bytes = new byte[Encoding.UTF8.GetMaxByteCount(text.Length)];
        var count = 0;
        for (var i = 0; i < text.Length; i++)
        {
            if (text[i] == '%')
            {
                if (i + 2 >= text.Length || !char.IsAsciiHexDigit(text[i + 1]) || !char.IsAsciiHexDigit(text[i + 2]))
                {
                    throw Invalid(uri, $"has a '%' without two hexadecimal digits in its {what}");
                }

                bytes[count++] = Convert.FromHexString(text.AsSpan(i + 1, 2))[0];
                i += 2;
                continue;
            }

            var pair = char.IsHighSurrogate(text[i]) && i + 1 < text.Length ? 2 : 1;
            count += Encoding.UTF8.GetBytes(text.AsSpan(i, pair), bytes.AsSpan(count));
            i += pair - 1;
        }

        return Utf8.IsValid(bytes.AsSpan(0, count))
            ? Encoding.UTF8.GetString(bytes, 0, count)
            : throw Invalid(uri, $"has an {what} that is not UTF-8");
    }

    // Unreserved characters, and those that neither end a path nor a query, stay readable.
    private static string Encode(string text)
    {
        var result = new StringBuilder();
        foreach (var b in Encoding.UTF8.GetBytes(text))
        {
            var c = (char)b;
            if (char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_' or '~' or '/' or ':')
            {
                result.Append(c);
            }
            else
            {
                result.Append($"%{b:X2}");
            }
        }

        return result.ToString();
    }

    private static BlockException Invalid(string uri, string problem) =>
        new(BlockErrorKind.InvalidRequest, $"{SafeText.Clean(uri, 256)}: {problem}");

    private static BlockException Unsupported(string uri, string problem) =>
        new(BlockErrorKind.Unsupported, $"{SafeText.Clean(uri, 256)}: {problem}");
}
