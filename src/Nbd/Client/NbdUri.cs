using System.Text;
using System.Text.Unicode;
using Platter.Core.Errors;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>NBD URIs (the NBD project's <c>uri.md</c>): <c>nbd://HOST:PORT/EXPORT</c> and <c>nbd+unix:///EXPORT?socket=PATH</c>.</summary>
/// <remarks>Parsed strictly after RFC 3986 and by hand: a general URI class would normalise the path, which is the export's name.</remarks>
public static class NbdUri
{
    private const int MaxChars = 32 * 1024;

    /// <summary>Parses a URI.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: TLS or vsock; <see cref="BlockErrorKind.InvalidRequest"/>: anything else
    /// that is wrong with it.</exception>
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
            "nbd" => false,
            "nbd+unix" => true,
            "nbds" or "nbds+unix" => throw Unsupported(uri, "TLS is not supported; use nbd:// or nbd+unix:// on a trusted network"),
            "nbd+vsock" or "nbds+vsock" => throw Unsupported(uri, "vsock is not supported"),
            _ => throw Invalid(uri, "is not an NBD URI: expected nbd:// or nbd+unix://"),
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
        var socket = ParseQuery(uri, query, isUnix);
        if (isUnix)
        {
            return authority.Length == 0
                ? NbdAddress.ForSocket(socket ?? throw Invalid(uri, "needs a parameter '?socket=PATH'"), export)
                : throw Invalid(uri, "names a host, but a unix socket has none: write nbd+unix:///EXPORT?socket=PATH");
        }

        var (host, port) = ParseAuthority(uri, authority);
        return NbdAddress.ForHost(host, port, export);
    }

    /// <summary>The URI of an address; <see cref="Parse"/> gives back an equal address.</summary>
    public static string Format(NbdAddress address)
    {
        var export = address.ExportName.Length == 0 ? string.Empty : $"/{Encode(address.ExportName)}";
        if (address.SocketPath is { } path)
        {
            return $"nbd+unix://{export}?socket={Encode(path)}";
        }

        var host = address.Host!.Contains(':', StringComparison.Ordinal) ? $"[{address.Host}]" : Encode(address.Host);
        return $"nbd://{host}:{address.Port}{export}";
    }

    private static (string Host, int Port) ParseAuthority(string uri, string authority)
    {
        if (authority.Contains('@', StringComparison.Ordinal))
        {
            throw Unsupported(uri, "a user name belongs to TLS, which is not supported");
        }

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

    private static string? ParseQuery(string uri, string query, bool isUnix)
    {
        string? socket = null;
        foreach (var part in query.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = part.IndexOf('=', StringComparison.Ordinal);
            var key = Decode(uri, equals < 0 ? part : part[..equals], "parameter");
            var value = equals < 0 ? string.Empty : Decode(uri, part[(equals + 1)..], "parameter");
            if (key.StartsWith("tls-", StringComparison.Ordinal))
            {
                throw Unsupported(uri, $"parameter '{SafeText.Clean(key, 64)}': TLS is not supported");
            }

            if (key != "socket" || !isUnix)
            {
                throw Invalid(uri, $"has the unknown parameter '{SafeText.Clean(key, 64)}'");
            }

            socket = socket is null ? value : throw Invalid(uri, "has the parameter 'socket' twice");
        }

        return socket;
    }

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
