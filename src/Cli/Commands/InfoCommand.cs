using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Graph;
using Platter.Core.Images;

namespace Platter.Cli.Commands;

/// <summary><c>info</c>: what an image is. Opens exactly one file, or with <c>--backing-chain</c> the chain.</summary>
internal sealed class InfoCommand : Command
{
    private static readonly Option s_backingChain = new('\0', "backing-chain", null, "Tell the same of every image in the backing chain.");

    // As for an image that cannot be opened at all; what can be told is told first.
    private const int StateIsBroken = 1;

    public override string Name => "info";

    public override string Summary => "Tell what an image is: its format, sizes, backing file, snapshots.";

    public override string Operands => "IMAGE";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, CommonOptions.Format, CommonOptions.Output, s_backingChain, CommonOptions.ImageOpts, CommonOptions.ForceShare,
        CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk, CommonOptions.Untrusted,
    ];

    public override string Details =>
        "info opens the named file alone, so it is safe on images from strangers; --backing-chain follows what the image names.\n"
        + "Of a machine with several disks it tells of each; as JSON in an array 'disks', each with its name for --disk.";

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var json = WantsJson(arguments);
        var name = OneImage(arguments);
        var chain = arguments.Has(s_backingChain);
        var images = ImageArguments.From(arguments, session);
        if (!arguments.Has(CommonOptions.Disk) && !arguments.Has(CommonOptions.ImageOpts)
            && arguments.Get(CommonOptions.Format) is null or "parallels-bundle" && Disk.ListDisks(name) is { Count: > 1 } disks)
        {
            return await new MachineInfo(session, images, name, disks).WriteAsync(json).ConfigureAwait(false);
        }

        var disk = await images.OpenAsync(name, options => options with { MetadataOnly = true, BackingChain = chain }).ConfigureAwait(false);
        await using var closing = disk.ConfigureAwait(false);
        return json ? await WriteJsonAsync(session, disk.Node, chain).ConfigureAwait(false) : await WriteTextAsync(session, disk.Node).ConfigureAwait(false);
    }

    private static async ValueTask<int> WriteJsonAsync(Session session, BlockNode top, bool chain)
    {
        var code = 0;
        var json = new JsonOutput(session.Out);
        if (chain)
        {
            json.BeginArray();
        }

        for (var node = top; node is not null; node = node.Backing)
        {
            var info = await node.GetInfoAsync().ConfigureAwait(false);
            InfoJson.Write(json, info);
            code |= Judge(session, node, info);
        }

        if (chain)
        {
            json.EndArray();
        }

        json.Finish();
        return code;
    }

    private static async ValueTask<int> WriteTextAsync(Session session, BlockNode top)
    {
        var code = 0;
        for (var node = top; node is not null; node = node.Backing)
        {
            if (!ReferenceEquals(node, top))
            {
                session.Out.Write('\n');
            }

            var info = await node.GetInfoAsync().ConfigureAwait(false);
            InfoText.Write(session.Out, info, session.OutputIsTerminal);
            code |= Judge(session, node, info);
        }

        return code;
    }

    // What there is has been shown; what cannot be used is said as by every other command.
    private static int Judge(Session session, BlockNode node, ImageInfo info)
    {
        if (BundleText.FindProblem(info) is not { } problem)
        {
            return 0;
        }

        session.Out.Flush();
        session.Complain(problem.Contains(node.Name, StringComparison.Ordinal) ? $"Could not open {problem}" : $"Could not open '{node.Name}': {problem}");
        return StateIsBroken;
    }
}
