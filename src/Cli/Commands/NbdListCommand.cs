using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Nbd.Client;

namespace Platter.Cli.Commands;

/// <summary><c>nbd list</c>: what a server says of all its exports.</summary>
internal sealed class NbdListCommand : Command
{
    public override string Name => "nbd list";

    public override string Summary => "List the exports of an NBD server, and what it says of each.";

    public override string Operands => "URI";

    public override IReadOnlyList<Option> Options { get; } = [CommonOptions.Help, NbdArguments.Json, .. NbdArguments.OfClient];

    public override ValueTask<int> RunAsync(Session session, Arguments arguments) => ListAsync(session, arguments);

    public static async ValueTask<int> ListAsync(Session session, Arguments arguments)
    {
        var (address, options) = NbdArguments.Server(arguments);
        var info = await NbdClient.InspectAllAsync(address, options).ConfigureAwait(false);
        if (arguments.Has(NbdArguments.Json))
        {
            NbdInfoOutput.WriteJson(session.Out, info, address);
        }
        else
        {
            NbdInfoOutput.WriteText(session.Out, info, address);
        }

        return 0;
    }
}
