using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter;

/// <summary>Turns what a person types as an image name into options.</summary>
public static class DiskName
{
    private static readonly string[] s_nbdSchemes = ["nbd://", "nbds://", "nbd+unix://", "nbds+unix://", "nbd+vsock://", "nbds+vsock://"];

    /// <summary>Parses a path, <c>file:PATH</c>, <c>json:{…}</c>, an NBD URI or <c>blkdebug:CONFIG:IMAGE</c>.</summary>
    /// <remarks>A name with a colon before its first slash that is none of these is refused, as the peers do, so that a protocol nobody
    /// supports is not taken for a file name; write <c>./na:me</c> for such a file.</remarks>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/> or <see cref="BlockErrorKind.Unsupported"/>.</exception>
    public static NodeOptions Parse(string name)
    {
        if (name.Length == 0)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "an empty image name");
        }

        if (name.StartsWith("json:", StringComparison.Ordinal))
        {
            return NodeOptions.ParseJson(name["json:".Length..]);
        }

        if (IsNbdUri(name))
        {
            return new NodeOptions { ["driver"] = "nbd", ["uri"] = name };
        }

        if (name.StartsWith("nbd:", StringComparison.Ordinal))
        {
            return ParseOldNbd(name);
        }

        if (name.StartsWith("blkdebug:", StringComparison.Ordinal))
        {
            return ParseFaults(name["blkdebug:".Length..]);
        }

        if (name.StartsWith("file:", StringComparison.Ordinal))
        {
            return NodeOptions.ForFile(name["file:".Length..]);
        }

        if (ProtocolOf(name) is { } protocol)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{name}: Unknown protocol '{protocol}'");
        }

        return NodeOptions.ForFile(name);
    }

    /// <summary>Whether the name is an NBD URI.</summary>
    public static bool IsNbdUri(string name) => Array.Exists(s_nbdSchemes, scheme => name.StartsWith(scheme, StringComparison.OrdinalIgnoreCase));

    /// <summary>The protocol prefix of a name, or null for a plain path.</summary>
    public static string? ProtocolOf(string name)
    {
        var colon = name.IndexOf(':', StringComparison.Ordinal);
        var slash = name.IndexOf('/', StringComparison.Ordinal);
        if (colon <= 0 || (slash >= 0 && slash < colon) || (OperatingSystem.IsWindows() && colon == 1))
        {
            return null;
        }

        return name[..colon];
    }

    // blkdebug:CONFIG:IMAGE, where CONFIG may be empty.
    private static NodeOptions ParseFaults(string rest)
    {
        var colon = rest.IndexOf(':', StringComparison.Ordinal);
        if (colon < 0)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "blkdebug requires both config file and image path");
        }

        var result = new NodeOptions { ["driver"] = "blkdebug" };
        if (colon > 0)
        {
            result["config"] = rest[..colon];
        }

        result.SetChild("image", Parse(rest[(colon + 1)..]));
        return result;
    }

    // nbd:HOST:PORT[:exportname=NAME] and nbd:unix:PATH[:exportname=NAME], the form from before URIs.
    private static NodeOptions ParseOldNbd(string name)
    {
        var result = new NodeOptions { ["driver"] = "nbd" };
        var rest = name["nbd:".Length..];
        var export = rest.IndexOf(":exportname=", StringComparison.Ordinal);
        if (export >= 0)
        {
            result["export"] = rest[(export + ":exportname=".Length)..];
            rest = rest[..export];
        }

        if (rest.StartsWith("unix:", StringComparison.Ordinal))
        {
            result["server.type"] = "unix";
            result["server.path"] = rest["unix:".Length..];
            return result;
        }

        var colon = rest.LastIndexOf(':');
        if (colon <= 0 || !ushort.TryParse(rest[(colon + 1)..], out var port))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{name}: expected nbd:HOST:PORT or nbd:unix:PATH");
        }

        result["server.type"] = "inet";
        result["server.host"] = rest[..colon].Trim('[', ']');
        result["server.port"] = $"{port}";
        return result;
    }
}
