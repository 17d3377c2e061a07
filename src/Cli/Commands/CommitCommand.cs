using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;

namespace Platter.Cli.Commands;

/// <summary><c>commit</c>: writes what an image stores into its backing file.</summary>
internal sealed class CommitCommand : Command
{
    private static readonly Option s_base = new(
        'b', "base", "BASE", "Commit into this image of the backing chain, and all that lies between with it. Implies -d; the images between are no longer valid.");

    private static readonly Option s_keep = new('d', "drop", null, "Do not empty IMAGE afterwards: it is going to be deleted.");
    private static readonly Option s_rate = new('r', "rate-limit", "RATE", "Bytes per second at most, such as 50M.");

    public override string Name => "commit";

    public override string Summary => "Write what an image stores into its backing file, and empty the image.";

    public override string Operands => "IMAGE";

    public override string Details =>
        "A backing file that is shorter grows. IMAGE is emptied after all of it is safely in the backing file: when the power fails on the way, run the same command again.\n\nOf a bundle the snapshot under the current state becomes what the disk is now; other states that stand on the old snapshot stay what they are.";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_base, s_keep, s_rate, CommonOptions.Format, CommonOptions.ImageOpts, CommonOptions.Cache, CommonOptions.Progress,
        CommonOptions.Quiet, CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var name = OneImage(arguments);
        CommonOptions.ThrowIfNoCacheMode(arguments, CommonOptions.Cache);
        var rate = arguments.Get(s_rate) is { } text ? SizeText.Parse(text, "rate limit") : 0;
        var stop = session.WatchInterrupts();
        var images = ImageArguments.From(arguments, session);
        var depth = 1;
        var target = arguments.Get(s_base);
        if (target is not null)
        {
            // Locks are taken when it is opened for writing; this is only to see which image of the chain is meant.
            var look = await images.OpenAsync(
                name, options => options with { MetadataOnly = true, BackingChain = true, ForceShare = true }, stop).ConfigureAwait(false);
            await using var closing = look.ConfigureAwait(false);
            depth = look.FindBacking(target) ?? throw new BlockException(
                BlockErrorKind.NotFound, $"Did not find '{SafeText.Clean(target, 256)}' in the backing chain of '{SafeText.Clean(name, 256)}'");
        }

        using (var progress = ProgressLine.Start(session, arguments.Has(CommonOptions.Progress) && !arguments.Has(CommonOptions.Quiet)))
        {
            var disk = await images.OpenAsync(name, options => options with { Writable = true, WritableBacking = depth }, stop).ConfigureAwait(false);
            await using (disk.ConfigureAwait(false))
            {
                var how = new DiskCommitOptions { KeepOverlay = target is not null || arguments.Has(s_keep), BytesPerSecond = rate };
                await disk.CommitAsync(how, progress, stop).ConfigureAwait(false);
            }

            progress.Complete();
        }

        if (!arguments.Has(CommonOptions.Quiet))
        {
            session.Out.Write("Image committed.\n");
        }

        return 0;
    }
}
