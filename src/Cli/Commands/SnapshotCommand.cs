using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;

namespace Platter.Cli.Commands;

/// <summary><c>snapshot</c>: lists, takes, applies and deletes internal snapshots.</summary>
internal sealed class SnapshotCommand : Command
{
    private static readonly Option s_list = new('l', "list", null, "List the snapshots; the default.");
    private static readonly Option s_create = new('c', "create", "NAME", "Take a snapshot of the disk as it is.");
    private static readonly Option s_apply = new('a', "apply", "SNAPSHOT", "Make the disk what it was at a snapshot (its id or name). What it is now is lost.");
    private static readonly Option s_delete = new('d', "delete", "SNAPSHOT", "Forget a snapshot and give up its space.");

    public override string Name => "snapshot";

    public override string Summary => "List, take, apply or delete snapshots inside an image or bundle.";

    public override string Operands => "IMAGE";

    public override string Details =>
        "Taking, applying and deleting happen wholly or, at any error or power cut, not at all: the image is never between two states. A snapshot of a bundle is known by its GUID or its name.";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_list, s_create, s_apply, s_delete, CommonOptions.Format, CommonOptions.ImageOpts, CommonOptions.Quiet, CommonOptions.ForceShare,
        CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (new[] { s_list, s_create, s_apply, s_delete }.Count(arguments.Has) > 1)
        {
            throw new UsageException("Cannot mix '-l', '-a', '-c', '-d'");
        }

        var name = OneImage(arguments);
        var stop = session.WatchInterrupts();
        var images = ImageArguments.From(arguments, session);
        var (kind, snapshot) = arguments.Get(s_create) is { } created ? ('c', created)
            : arguments.Get(s_apply) is { } applied ? ('a', applied)
            : arguments.Get(s_delete) is { } deleted ? ('d', deleted) : ('l', string.Empty);
        if (kind == 'l')
        {
            var listed = await images.OpenAsync(name, options => options with { MetadataOnly = true }, stop).ConfigureAwait(false);
            await using var closing = listed.ConfigureAwait(false);
            InfoText.WriteSnapshots(session.Out, listed.Snapshots);
            return 0;
        }

        if (arguments.Has(CommonOptions.ForceShare))
        {
            throw new UsageException("-U only makes sense for listing snapshots");
        }

        var disk = await images.OpenAsync(name, options => options with { Writable = true }, stop).ConfigureAwait(false);
        await using (disk.ConfigureAwait(false))
        {
            var words = kind switch { 'c' => "create", 'a' => "apply", _ => "delete" };
            try
            {
                await RunAsync(disk.Node, kind, snapshot, stop).ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                throw new BlockException(e.Kind, $"Could not {words} snapshot '{snapshot}': {e.Message}", e);
            }
        }

        return 0;
    }

    private static ValueTask RunAsync(BlockNode node, char kind, string snapshot, CancellationToken cancellationToken)
    {
        var selector = new SnapshotSelector(null, null, snapshot);
        return kind switch
        {
            'c' => node.CreateSnapshotAsync(snapshot, DateTimeOffset.UtcNow, cancellationToken),
            'a' => node.ApplySnapshotAsync(selector, cancellationToken),
            _ => node.DeleteSnapshotAsync(selector, cancellationToken),
        };
    }
}
