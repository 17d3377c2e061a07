using Platter.Cli.Options;
using Platter.Core.Errors;

namespace Platter.Cli.Commands;

/// <summary><c>bitmap</c>: adds, removes, clears, enables, disables and merges persistent dirty bitmaps.</summary>
internal sealed class BitmapCommand : Command
{
    private static readonly Option s_add = new('\0', "add", null, "Add an empty bitmap that is enabled.");
    private static readonly Option s_remove = new('\0', "remove", null, "Remove the bitmap; the only thing that can be done with an inconsistent one.");
    private static readonly Option s_clear = new('\0', "clear", null, "Make the bitmap say that nothing is dirty.");
    private static readonly Option s_enable = new('\0', "enable", null, "From now on track writes into the bitmap.");
    private static readonly Option s_disable = new('\0', "disable", null, "From now on do not.");
    private static readonly Option s_merge = new('\0', "merge", "SOURCE", "Add to the bitmap what is dirty in the bitmap SOURCE.");
    private static readonly Option s_source = new('b', "source-file", "FILE", "The image that has SOURCE; without it IMAGE itself.");
    private static readonly Option s_sourceFormat = new('F', "source-format", "FMT", "The format of that image.");
    private static readonly Option s_granularity = new(
        'g', "granularity", "SIZE", "With --add: bytes that one bit stands for, a power of two from 512 to 2G. The cluster size by default, but 4k to 64k.");

    private static readonly Option[] s_actions = [s_add, s_remove, s_clear, s_enable, s_disable, s_merge];

    public override string Name => "bitmap";

    public override string Summary => "Add, remove, clear, enable, disable or merge dirty bitmaps.";

    public override string Operands => "IMAGE BITMAP";

    public override string Details =>
        "Several actions are done in the order in which they are given; each happens wholly or, at any error or power cut, not at all. 'info' lists the bitmaps of an image.";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_add, s_remove, s_clear, s_enable, s_disable, s_merge, s_source, s_sourceFormat, s_granularity, CommonOptions.Format,
        CommonOptions.ImageOpts, CommonOptions.Object, CommonOptions.PasswordFile,
        CommonOptions.Disk,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        long? granularity = arguments.Get(s_granularity) is { } text ? SizeText.Parse(text, "granularity") : null;
        var actions = arguments.InOrder.Where(given => s_actions.Contains(given.Option)).ToList();
        if (actions.Count == 0)
        {
            throw new UsageException("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
        }

        Judge(arguments);
        var (name, bitmap) = (arguments.Operands[0], arguments.Operands[1]);
        var stop = session.WatchInterrupts();
        var images = ImageArguments.From(arguments, session);
        var disk = await images.OpenAsync(name, options => options with { Writable = true }, stop).ConfigureAwait(false);
        await using var closing = disk.ConfigureAwait(false);
        if (arguments.Get(s_source) is not { } sourceName)
        {
            return await RunAllAsync(disk, null, actions, bitmap, granularity, stop).ConfigureAwait(false);
        }

        var source = await images.OpenNameAsync(sourceName, options => options with { Format = arguments.Get(s_sourceFormat) }, stop).ConfigureAwait(false);
        await using var closingSource = source.ConfigureAwait(false);
        return await RunAllAsync(disk, source, actions, bitmap, granularity, stop).ConfigureAwait(false);
    }

    private static async ValueTask<int> RunAllAsync(
        Disk disk, Disk? source, List<(Option Action, string? Value)> actions, string bitmap, long? granularity, CancellationToken cancellationToken)
    {
        foreach (var (action, value) in actions)
        {
            try
            {
                await RunAsync(disk, source, action, bitmap, value, granularity, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                var message = e.Message.StartsWith($"{disk.Node.Name}: ", StringComparison.Ordinal) ? e.Message[(disk.Node.Name.Length + 2)..] : e.Message;
                throw new BlockException(e.Kind, $"Operation {action.Long} on bitmap {bitmap} failed: {message}", e);
            }
        }

        return 0;
    }

    private static void Judge(Arguments arguments)
    {
        if (arguments.Operands.Count != 2)
        {
            throw new UsageException("Expecting filename and bitmap name");
        }

        if (arguments.Has(s_sourceFormat) && !arguments.Has(s_source))
        {
            throw new UsageException("-F only supported with -b");
        }

        if (arguments.Has(s_source) && !arguments.Has(s_merge))
        {
            throw new UsageException("Merge bitmap source file only supported with --merge");
        }

        if (arguments.Has(s_granularity) && !arguments.Has(s_add))
        {
            throw new UsageException("granularity only supported with --add");
        }
    }

    private static ValueTask RunAsync(
        Disk disk, Disk? source, Option action, string bitmap, string? value, long? granularity, CancellationToken cancellationToken) => action.Long switch
    {
        // As for the peers 0 is the default.
        "add" => disk.AddBitmapAsync(bitmap, granularity is 0 ? null : granularity, cancellationToken: cancellationToken),
        "remove" => disk.RemoveBitmapAsync(bitmap, cancellationToken),
        "clear" => disk.ClearBitmapAsync(bitmap, cancellationToken),
        "enable" => disk.EnableBitmapAsync(bitmap, cancellationToken),
        "disable" => disk.DisableBitmapAsync(bitmap, cancellationToken),
        _ => disk.MergeBitmapAsync(bitmap, value!, source, cancellationToken),
    };
}
