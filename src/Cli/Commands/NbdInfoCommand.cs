using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Cli.Serving;
using Platter.Core.Errors;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;

namespace Platter.Cli.Commands;

/// <summary><c>nbd info</c>: what a server says of an export, as nbdinfo tells it.</summary>
internal sealed class NbdInfoCommand : Command
{
    /// <summary>What this and its brothers take.</summary>
    public const string ServerOperand = "URI | [ CMD ARGS ... ]";

    public static readonly Option Content = new('\0', "content", null, "Look at the first bytes of an export, too, and say what they are. 'nbd info' does that anyway.");
    public static readonly Option NoContent = new('\0', "no-content", null, "Do not; 'nbd list' does not do it anyway.");

    private const int No = 2;

    private static readonly Option s_list = new('L', "list", null, "Tell about all exports of the server, whichever the URI names. As 'nbd list'.");
    private static readonly Option s_size = new('\0', "size", null, "Print the size in bytes and nothing else.");
    private static readonly Option s_map = new('\0', "map", "[=CONTEXT]", "Print what a metadata context says: base:allocation, or CONTEXT. As 'nbd map'.");
    private static readonly Option s_uri = new('\0', "uri", null, "Print the URI as it is written in full, and nothing else.");
    private static readonly Option s_can = new(
        '\0', "can", "WHAT",
        "Print nothing; exit with 0 if the export can, else with 2: block-status-payload, cache, connect, df, fast-zero, flush, fua, multi-conn, read, trim, write, zero.");
    private static readonly Option s_is = new('\0', "is", "WHAT", "Likewise: read-only, rotational, tls.");
    private static readonly Option s_has = new('\0', "has", "WHAT", "Likewise: structured-reply, extended-headers.");
    private static readonly Option s_cannot = new('\0', "cannot", "WHAT", "The opposite: exit with 2 if it can. Likewise --isnt and --hasnt.");
    private static readonly Option s_isnt = new('\0', "isnt", "WHAT", string.Empty);
    private static readonly Option s_hasnt = new('\0', "hasnt", "WHAT", string.Empty);

    // As nbdinfo has them.
    private static readonly Option[] s_questions = [s_can, s_is, s_has, new('\0', "have", "WHAT", string.Empty)];

    private static readonly Option[] s_negations =
    [
        s_cannot, s_isnt, s_hasnt, .. new[] { "can-not", "cant", "is-not", "isnot", "has-not", "hasnot", "havent", "have-not", "havenot" }
            .Select(word => new Option('\0', word, "WHAT", string.Empty)),
    ];

    private static readonly Option[] s_colours =
        [.. new[] { "color", "colors", "colour", "colours", "no-color", "no-colors", "no-colour", "no-colours" }.Select(word => new Option('\0', word, null, string.Empty))];

    public override string Name => "nbd info";

    public override string Summary => "Print what an NBD server says of itself and an export.";

    public override string Operands => ServerOperand;

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, NbdArguments.Json, s_list, s_size, s_uri, Content, NoContent, s_map, NbdMapCommand.Totals, .. s_questions, .. s_negations, .. NbdArguments.OfClient,
        .. s_colours,
    ];

    public override string Details =>
        "CMD is a server that takes a socket from a service manager (nbdkit, qemu-nbd, platter serve); it is started, asked, and ended: nbd info -- [ nbdkit memory 1G ]";

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (arguments.Has(s_map) || arguments.Has(NbdMapCommand.Totals))
        {
            return await NbdMapCommand.RunAsync(session, arguments, arguments.Get(s_map)).ConfigureAwait(false);
        }

        if (arguments.Has(s_list))
        {
            return await NbdListCommand.ListAsync(session, arguments).ConfigureAwait(false);
        }

        using var servers = new StartedServers(session);
        var place = NbdArguments.OnePlace(arguments);
        var (address, options) = NbdArguments.Server(arguments, servers.NameOf(place));
        if (Array.Find([.. s_questions, .. s_negations], arguments.Has) is { } question)
        {
            var answer = await AnswerAsync(arguments.Get(question)!, address, options, servers.Stop).ConfigureAwait(false);
            return answer != s_negations.Contains(question) ? 0 : No;
        }

        if (arguments.Has(s_uri))
        {
            session.Out.Write(place.Name is null
                ? throw new UsageException("--uri: a server that is started for this has none that others could use")
                : $"{SafeText.Clean(NbdArguments.Uri(address))}\n");
            return 0;
        }

        var info = await NbdClient.InspectAsync(address, options, servers.Stop).ConfigureAwait(false);
        if (arguments.Has(s_size))
        {
            session.Out.Write($"{info.Exports[0].Size}\n");
            return 0;
        }

        var contents = arguments.Has(NoContent) ? [] : await ReadContentsAsync(session, arguments, servers, place, info).ConfigureAwait(false);
        NbdInfoOutput.Write(session.Out, info, place.Name is null ? null : address, contents, arguments.Has(NbdArguments.Json));
        return 0;
    }

    /// <summary>What is in each of the exports; null where it cannot be read, of which the user is told.</summary>
    public static async ValueTask<IReadOnlyList<string?>> ReadContentsAsync(
        Session session, Arguments arguments, StartedServers servers, NbdPlace place, NbdServerInfo info)
    {
        var contents = new List<string?>();
        foreach (var export in info.Exports)
        {
            try
            {
                // Many servers that were started for one client are gone after it.
                var (address, options) = NbdArguments.Server(arguments, servers.NameOf(place));
                var storage = await NbdStorage.OpenAsync(address.WithExport(export.Name), options with { Maps = false, Connections = 1 }, servers.Stop).ConfigureAwait(false);
                await using var closing = storage.ConfigureAwait(false);
                contents.Add(await ContentDescription.DescribeAsync(storage, servers.Stop).ConfigureAwait(false));
            }
            catch (BlockException e)
            {
                session.Warn($"content not known: {e.Message}");
                contents.Add(null);
            }
        }

        return contents;
    }

    private static async ValueTask<bool> AnswerAsync(string question, NbdAddress address, NbdClientOptions options, CancellationToken stop)
    {
        NbdTransmissionFlags? flag = question switch
        {
            "block-status-payload" => NbdTransmissionFlags.BlockStatusPayload,
            "cache" => NbdTransmissionFlags.SendCache,
            "df" => NbdTransmissionFlags.SendDf,
            "fast-zero" => NbdTransmissionFlags.SendFastZero,
            "flush" => NbdTransmissionFlags.SendFlush,
            "fua" => NbdTransmissionFlags.SendFua,
            "multi-conn" => NbdTransmissionFlags.CanMultiConn,
            "trim" => NbdTransmissionFlags.SendTrim,
            "zero" => NbdTransmissionFlags.SendWriteZeroes,
            "rotational" => NbdTransmissionFlags.Rotational,
            "read-only" or "readonly" or "write" => NbdTransmissionFlags.ReadOnly,
            "connect" or "read" or "tls" or "structured" or "structured-reply" or "extended-headers" => null,
            _ => throw new UsageException($"unknown --can, --is or --has option: {SafeText.Clean(question, 64)}"),
        };
        NbdServerInfo info;
        try
        {
            info = await NbdClient.InspectAsync(address, options, stop).ConfigureAwait(false);
        }
        catch (BlockException) when (question == "connect")
        {
            return false;
        }

        return question switch
        {
            "connect" or "read" => true,
            "tls" => info.IsEncrypted,
            "structured" or "structured-reply" => info.HasStructuredReplies,
            "extended-headers" => info.HasExtendedHeaders,
            "write" => (info.Exports[0].Flags & flag!.Value) == 0,
            _ => (info.Exports[0].Flags & flag!.Value) != 0,
        };
    }
}
