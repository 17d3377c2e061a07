using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;

namespace Platter.Cli.Commands;

/// <summary><c>nbd info</c>: what a server says of an export, as nbdinfo tells it.</summary>
internal sealed class NbdInfoCommand : Command
{
    private const int No = 2;

    private static readonly Option s_list = new('L', "list", null, "Tell about all exports of the server, whichever the URI names. As 'nbd list'.");
    private static readonly Option s_size = new('\0', "size", null, "Print the size in bytes and nothing else.");
    private static readonly Option s_map = new('\0', "map", "[=CONTEXT]", "Print what a metadata context says: base:allocation, or CONTEXT. As 'nbd map'.");
    private static readonly Option s_can = new('\0', "can", "WHAT", "Print nothing; exit with 0 if the export can, else with 2: cache, connect, df, fast-zero, flush, fua, multi-conn, read, trim, write, zero.");
    private static readonly Option s_is = new('\0', "is", "WHAT", "Likewise: read-only, rotational, tls, structured-reply, extended-headers.");

    public override string Name => "nbd info";

    public override string Summary => "Print what an NBD server says of itself and an export.";

    public override string Operands => "URI";

    public override IReadOnlyList<Option> Options { get; } =
        [CommonOptions.Help, NbdArguments.Json, s_list, s_size, s_map, NbdMapCommand.Totals, s_can, s_is, .. NbdArguments.OfClient];

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

        var (address, options) = NbdArguments.Server(arguments);
        if ((arguments.Get(s_can) ?? arguments.Get(s_is)) is { } question)
        {
            return await AnswerAsync(question, address, options).ConfigureAwait(false) ? 0 : No;
        }

        var info = await NbdClient.InspectAsync(address, options).ConfigureAwait(false);
        if (arguments.Has(s_size))
        {
            session.Out.Write($"{info.Exports[0].Size}\n");
        }
        else if (arguments.Has(NbdArguments.Json))
        {
            NbdInfoOutput.WriteJson(session.Out, info, address);
        }
        else
        {
            NbdInfoOutput.WriteText(session.Out, info, address);
        }

        return 0;
    }

    private static async ValueTask<bool> AnswerAsync(string question, NbdAddress address, NbdClientOptions options)
    {
        NbdTransmissionFlags? flag = question switch
        {
            "cache" => NbdTransmissionFlags.SendCache,
            "df" => NbdTransmissionFlags.SendDf,
            "fast-zero" => NbdTransmissionFlags.SendFastZero,
            "flush" => NbdTransmissionFlags.SendFlush,
            "fua" => NbdTransmissionFlags.SendFua,
            "multi-conn" => NbdTransmissionFlags.CanMultiConn,
            "trim" => NbdTransmissionFlags.SendTrim,
            "zero" => NbdTransmissionFlags.SendWriteZeroes,
            "rotational" => NbdTransmissionFlags.Rotational,
            "read-only" or "write" => NbdTransmissionFlags.ReadOnly,
            "connect" or "read" or "tls" or "structured" or "structured-reply" or "extended-headers" => null,
            _ => throw new UsageException($"unknown --can or --is option: {SafeText.Clean(question, 64)}"),
        };
        NbdServerInfo info;
        try
        {
            info = await NbdClient.InspectAsync(address, options).ConfigureAwait(false);
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
