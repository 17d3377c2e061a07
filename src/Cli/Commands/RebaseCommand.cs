using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;

namespace Platter.Cli.Commands;

/// <summary><c>rebase</c>: gives an image another backing file, or none.</summary>
internal sealed class RebaseCommand : Command
{
    private static readonly Option s_backing = new(
        'b', "backing", "FILE", "The new backing file, as seen from the image's directory. An empty name: none, the image then stands alone.");

    private static readonly Option s_backingFormat = new('F', "backing-format", "FMT", "FILE's format. Has to be given with -b.");
    private static readonly Option s_unsafe = new(
        'u', "unsafe", null, "Only write the new name down: the old backing file need not be there, and what the disk reads may change.");

    private static readonly Option s_compress = new('c', "compress", null, "Store what is copied compressed.");

    public override string Name => "rebase";

    public override string Summary => "Give an image another backing file, without a change of what it reads.";

    public override string Operands => "IMAGE";

    public override string Details =>
        "What the image does not store and FILE has otherwise is copied into the image first. When the power fails on the way, the image reads as before: run the same command again.";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_backing, s_backingFormat, s_unsafe, s_compress, CommonOptions.Format, CommonOptions.ImageOpts, CommonOptions.Cache, CommonOptions.SourceCache,
        CommonOptions.Progress, CommonOptions.Quiet, CommonOptions.ForceShare, CommonOptions.Object, CommonOptions.PasswordFile,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var name = OneImage(arguments);
        var isUnsafe = arguments.Has(s_unsafe);
        var backing = arguments.Get(s_backing);
        if (backing is null && !isUnsafe)
        {
            throw new UsageException("Must specify backing file (-b) or use unsafe mode (-u)", pointToHelp: true);
        }

        if (isUnsafe && arguments.Has(s_compress))
        {
            throw new UsageException("-c and -u cannot go together: nothing is copied then");
        }

        CommonOptions.ThrowIfNoCacheMode(arguments, CommonOptions.Cache);
        CommonOptions.ThrowIfNoCacheMode(arguments, CommonOptions.SourceCache, "Invalid source cache option");
        var format = arguments.Get(s_backingFormat);
        if (format is not null && !KnownFormats.Registry.Knows(format))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"Invalid format name: '{SafeText.Clean(format, 64)}'");
        }

        var stop = session.WatchInterrupts();
        using var progress = ProgressLine.Start(session, arguments.Has(CommonOptions.Progress) && !arguments.Has(CommonOptions.Quiet));
        var disk = await ImageArguments.From(arguments, session).OpenAsync(
            name, options => options with { Writable = true, WithoutBacking = isUnsafe }, stop).ConfigureAwait(false);
        await using (disk.ConfigureAwait(false))
        {
            await disk.RebaseAsync(string.IsNullOrEmpty(backing) ? null : backing, format, arguments.Has(s_compress), progress, stop).ConfigureAwait(false);
        }

        progress.Complete();
        return 0;
    }
}
