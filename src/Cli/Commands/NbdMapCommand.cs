using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Cli.Serving;
using Platter.Nbd.Client;

namespace Platter.Cli.Commands;

/// <summary><c>nbd map</c>: what a metadata context says of an export, as nbdinfo tells it.</summary>
internal sealed class NbdMapCommand : Command
{
    public static readonly Option Totals = new('\0', "totals", null, "Print how much there is of each kind instead of where it is.");

    private static readonly Option s_context = new(
        '\0', "context", "CONTEXT", "The metadata context: base:allocation (the default), qemu:allocation-depth, qemu:dirty-bitmap:NAME. 'nbd info' lists them.");

    public override string Name => "nbd map";

    public override string Summary => "Print which parts of an NBD export hold data, are holes, or are dirty: offset, length and kind.";

    public override string Operands => NbdInfoCommand.ServerOperand;

    public override IReadOnlyList<Option> Options { get; } = [CommonOptions.Help, s_context, Totals, NbdArguments.Json, .. NbdArguments.OfClient];

    public override ValueTask<int> RunAsync(Session session, Arguments arguments) => RunAsync(session, arguments, arguments.Get(s_context));

    public static async ValueTask<int> RunAsync(Session session, Arguments arguments, string? context)
    {
        context ??= NbdMapOutput.Allocation;
        using var servers = new StartedServers(session);
        var (address, options) = NbdArguments.Server(arguments, servers.NameOf(NbdArguments.OnePlace(arguments)));
        var stop = session.WatchInterrupts();
        var storage = await NbdStorage.OpenAsync(address, options with { MapContext = context }, stop).ConfigureAwait(false);
        await using var closing = storage.ConfigureAwait(false);
        await NbdMapOutput.WriteAsync(session.Out, storage, context, arguments.Has(Totals), arguments.Has(NbdArguments.Json), stop).ConfigureAwait(false);
        return 0;
    }
}
