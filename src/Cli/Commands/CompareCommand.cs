using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Operations.Offline;

namespace Platter.Cli.Commands;

/// <summary><c>compare</c>: do two disks read the same?</summary>
internal sealed class CompareCommand : Command
{
    private const int Differ = 1;
    private const int CannotOpen = 2;
    private const int CannotMap = 3;
    private const int CannotRead = 4;

    private static readonly Option s_firstFormat = CommonOptions.Format with { Help = "The first image's format; without it the format is recognised." };
    private static readonly Option s_secondFormat = new('F', "second-format", "FMT", "The second image's format.");
    private static readonly Option s_firstSnapshot = CommonOptions.LoadSnapshot with { Help = "Take IMAGE1 as it was at this snapshot." };
    private static readonly Option s_secondSnapshot = new('\0', "second-snapshot", "SNAPSHOT", "Take IMAGE2 as it was at this snapshot.");
    private static readonly Option s_firstDisk = CommonOptions.Disk with { Help = "Which disk of IMAGE1, a machine (VM.pvm) that has several." };
    private static readonly Option s_secondDisk = new('\0', "second-disk", "NAME", "Which disk of IMAGE2.");
    private static readonly Option s_strict = new('s', "strict", null, "Sizes must be equal too, and what one image has allocated the other must have.");

    public override string Name => "compare";

    public override string Summary => "Compare what a guest would read from two disks, whatever their formats.";

    public override string Operands => "IMAGE1 IMAGE2";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_firstFormat, s_secondFormat, s_strict, CommonOptions.Progress, CommonOptions.Quiet, CommonOptions.ImageOpts,
        CommonOptions.ForceShare, CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.SourceCache, CommonOptions.Untrusted, s_firstSnapshot, s_secondSnapshot,
        s_firstDisk, s_secondDisk,
    ];

    public override string Details =>
        "Where one disk is longer, its tail must read as zeros.\n"
        + "Exit code: 0 identical; 1 different, or the command line was wrong; 2 an image cannot be opened; 3 its mapping is broken; 4 its data "
        + "cannot be read.";

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (arguments.Operands.Count != 2)
        {
            throw new UsageException("Expecting two image file names", pointToHelp: true);
        }

        if (arguments.Get(CommonOptions.SourceCache) is { } cache && !CommonOptions.IsCacheMode(cache))
        {
            throw new CommandException(CannotOpen, $"Invalid source cache option: {cache}");
        }

        var stop = session.WatchInterrupts();
        var quiet = arguments.Has(CommonOptions.Quiet);
        var firstFormat = arguments.Get(s_firstFormat);
        var secondFormat = arguments.Get(s_secondFormat);
        if (arguments.Has(CommonOptions.ImageOpts) && (firstFormat ?? secondFormat) is not null)
        {
            throw new UsageException("--image-opts and --format are mutually exclusive");
        }

        var secondSnapshot = arguments.Get(s_secondSnapshot) is { } name ? SnapshotSelector.Parse(name) : null;
        var images = ImageArguments.From(arguments, session, s_firstSnapshot);
        Disk first, second;
        try
        {
            first = await images.OpenAsync(
                arguments.Operands[0], options => options with { Format = firstFormat, BundleDisk = arguments.Get(s_firstDisk) }, stop).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            throw new CommandException(CannotOpen, e.Message, e);
        }

        await using var closingFirst = first.ConfigureAwait(false);
        try
        {
            second = await images.OpenAsync(
                arguments.Operands[1],
                options => options with { Format = secondFormat, Snapshot = secondSnapshot, BundleDisk = arguments.Get(s_secondDisk) },
                stop).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            throw new CommandException(CannotOpen, e.Message, e);
        }

        await using var closingSecond = second.ConfigureAwait(false);
        using var progress = ProgressLine.Start(session, arguments.Has(CommonOptions.Progress) && !quiet);
        CompareResult result;
        try
        {
            result = await CompareOperation.CompareAsync(
                first.Node, second.Node, arguments.Has(s_strict), progress, stop).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            throw new CommandException(e is MappingFailedException ? CannotMap : CannotRead, e.Message, e);
        }

        if (!quiet)
        {
            progress.GiveWay();
            Tell(session.Out, result, Math.Min(first.Size, second.Size));
        }

        return result.Outcome == CompareOutcome.Identical ? 0 : Differ;
    }

    private static void Tell(TextWriter writer, CompareResult result, long commonSize)
    {
        // The peers look at the tails of disks of different size last, and say so then.
        if (result is { SizesDiffer: true, Outcome: not CompareOutcome.SizeMismatch }
            && (result.Outcome == CompareOutcome.Identical || result.At.Value >= commonSize))
        {
            writer.Write("Warning: Image size mismatch!\n");
        }

        writer.Write(result.Outcome switch
        {
            CompareOutcome.Identical => "Images are identical.\n",
            CompareOutcome.SizeMismatch => "Strict mode: Image size mismatch!\n",
            CompareOutcome.AllocationMismatch => $"Strict mode: Offset {result.At.Value} block status mismatch!\n",
            _ => $"Content mismatch at offset {result.At.Value}!\n",
        });
    }
}
