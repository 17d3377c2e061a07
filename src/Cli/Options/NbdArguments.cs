using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Host.Sockets;
using Platter.Nbd.Client;

namespace Platter.Cli.Options;

/// <summary>What a command line says about an NBD server.</summary>
internal static class NbdArguments
{
    public static readonly Option Connections = new('C', "connections", "COUNT", "Connections to one export, where its server allows several; 4 by default, on this machine no more than it has processors.");
    public static readonly Option Json = new('\0', "json", null, "Print JSON, with nbdinfo's names.");

    /// <summary>What commands take that look at a server.</summary>
    public static readonly Option[] OfClient = [TlsArguments.Credentials, TlsArguments.HostName, CommonOptions.Object];

    /// <summary>The options of a server or export that is named by a URI, <c>nbd:HOST:PORT</c> or <c>json:{...}</c>.</summary>
    /// <returns>Null when the name is something else.</returns>
    /// <exception cref="BlockException">It is malformed.</exception>
    public static NodeOptions? Parse(string name) => DiskName.IsNbdUri(name) || name.StartsWith("nbd:", StringComparison.Ordinal) || name.StartsWith("json:", StringComparison.Ordinal)
        ? DiskName.Parse(name) is { Driver: "nbd" } options ? options : null
        : null;

    /// <summary>The one place that the operands name.</summary>
    /// <exception cref="UsageException">There is no such operand, or more.</exception>
    public static NbdPlace OnePlace(Arguments arguments) => NbdPlace.Parse(arguments.Operands) is [var place]
        ? place
        : throw new UsageException("Expecting one NBD URI, or the command of a server in brackets: [ CMD ARGS ... ]", pointToHelp: true);

    /// <summary>The server that a name means, and how to talk to it.</summary>
    /// <exception cref="UsageException">It is no server.</exception>
    /// <exception cref="BlockException">It is malformed, or credentials are.</exception>
    public static (NbdAddress Address, NbdClientOptions Options) Server(Arguments arguments, string name)
    {
        var options = Parse(name) ?? throw new UsageException($"{SafeText.Clean(name, 256)}: expected an NBD URI such as nbd://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH");
        var how = NbdClientOptions.FromOptions(options) with
        {
            Tls = TlsArguments.Client(arguments),
            TlsHostName = arguments.Get(TlsArguments.HostName),
            TlsLibrary = KnownFormats.TlsLibrary,
            ConnectVsock = Vsock.Connect,
        };
        return (NbdAddress.FromOptions(options), how);
    }

    /// <summary>A URI as nbdinfo spells it: with a slash behind the authority.</summary>
    public static string Uri(NbdAddress address)
    {
        var uri = address.ToString();
        var authority = uri.IndexOf("://", StringComparison.Ordinal) + 3;
        var end = uri.AsSpan(authority).IndexOfAny('/', '?');
        return end < 0 ? $"{uri}/" : uri[authority + end] == '?' ? uri.Insert(authority + end, "/") : uri;
    }

    /// <summary>A number of something.</summary>
    /// <returns>Null when the option was not given.</returns>
    /// <exception cref="UsageException">It is not a number between the two.</exception>
    public static int? Number(Arguments arguments, Option option, int least, int most) => arguments.Get(option) switch
    {
        null => null,
        var text when int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most => number,
        var text => throw new UsageException($"Invalid {option} '{SafeText.Clean(text, 64)}': expected a number between {least} and {most}"),
    };
}
