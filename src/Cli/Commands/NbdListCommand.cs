using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Cli.Serving;
using Platter.Nbd.Client;

namespace Platter.Cli.Commands;

/// <summary><c>nbd list</c>: what a server says of all its exports.</summary>
internal sealed class NbdListCommand : Command
{
    public override string Name => "nbd list";

    public override string Summary => "List the exports of an NBD server, and what it says of each.";

    public override string Operands => NbdInfoCommand.ServerOperand;

    public override IReadOnlyList<Option> Options { get; } = [CommonOptions.Help, NbdArguments.Json, NbdInfoCommand.Content, NbdInfoCommand.NoContent, .. NbdArguments.OfClient];

    public override ValueTask<int> RunAsync(Session session, Arguments arguments) => ListAsync(session, arguments);

    public static async ValueTask<int> ListAsync(Session session, Arguments arguments)
    {
        using var servers = new StartedServers(session);
        var place = NbdArguments.OnePlace(arguments);
        var (address, options) = NbdArguments.Server(arguments, servers.NameOf(place));
        var info = await NbdClient.InspectAllAsync(address, options, servers.Stop).ConfigureAwait(false);
        var contents = arguments.Has(NbdInfoCommand.Content) ? await NbdInfoCommand.ReadContentsAsync(session, arguments, servers, place, info).ConfigureAwait(false) : [];
        NbdInfoOutput.Write(session.Out, info, place.Name is null ? null : address, contents, arguments.Has(NbdArguments.Json));
        return 0;
    }
}
