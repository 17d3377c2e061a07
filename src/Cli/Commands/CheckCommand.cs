using System.Globalization;
using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Commands;

/// <summary><c>check</c>: are an image's structures, or those of every file of a bundle, consistent? Repairs them, and takes repairs back.</summary>
internal sealed class CheckCommand : Command
{
    private const int Failed = 1;
    private const int Corrupt = 2;
    private const int Leaking = 3;
    private const int NotSupported = 63;

    private static readonly Option s_repair = new(
        'r', "repair", "leaks|all",
        "Repair the image: give back leaked space, or mend everything that can be mended without guessing. Of a qcow2 it happens wholly or not at all; of Parallels images it can be run again after a cut. An undo file takes it back.");

    private static readonly Option s_explain = new(
        '\0', "explain", null, "Say of every finding what it means, what the guest has there, and what a repair does about it.");

    private static readonly Option s_undo = new(
        '\0', "undo", "FILE", "With -r: keep in FILE, instead of IMAGE.undo, what takes the repair back. Without -r: take back the repair that left FILE.");

    public override string Name => "check";

    public override string Summary => "Verify an image's structures: tables, reference counts, and for a bundle every file against its descriptor; repair them.";

    public override string Operands => "IMAGE";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, CommonOptions.Format, CommonOptions.Output, CommonOptions.Quiet, CommonOptions.ImageOpts, CommonOptions.ForceShare,
        CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk, CommonOptions.SourceCache, CommonOptions.Untrusted, s_repair, s_explain, s_undo,
    ];

    public override string Details =>
        "Findings go to standard error, one per line; with --explain to standard output.\n"
        + "Exit code: 0 nothing was found, or everything was repaired; 1 the check failed, and nothing was changed; 2 the image is corrupt; 3 space is leaked and nothing worse; "
        + "63 the format has nothing to check, or cannot be repaired.\n"
        + "'check --undo FILE' takes a repair back while the image's tables and the file's size are as it left them: what a guest has written since into clusters that it had already stays, after "
        + "any other write it is refused, with nothing changed. IMAGE need not be given unless it has another name now.";

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var json = WantsJson(arguments);
        if (arguments.Get(CommonOptions.SourceCache) is { } cache && !CommonOptions.IsCacheMode(cache))
        {
            throw new UsageException($"Invalid source cache option: {cache}");
        }

        var mode = ModeOf(arguments);
        if (mode is null && arguments.Get(s_undo) is { } undoFile)
        {
            return await UndoAsync(session, arguments, undoFile).ConfigureAwait(false);
        }

        var name = OneImage(arguments);
        if (mode is not null && arguments.Has(CommonOptions.ForceShare))
        {
            throw new UsageException("-r needs the image to itself: -U cannot be used with it");
        }

        var images = ImageArguments.From(arguments, session);
        var disk = await images.OpenAsync(name, options => mode is null ? options with { MetadataOnly = true } : options with { ForRepair = true }).ConfigureAwait(false);
        await using var closing = disk.ConfigureAwait(false);
        var output = await ExamineAsync(session, arguments, disk, mode).ConfigureAwait(false);
        session.Error.Flush();
        if (arguments.Has(CommonOptions.Quiet))
        {
            // The exit code says enough.
        }
        else if (json)
        {
            output.WriteJson(session.Out, disk.Format, name);
        }
        else
        {
            output.WriteText(session.Out);
            TellUndo(session, output.UndoFiles);
        }

        var report = output.Report;
        return report.Errors > 0 ? Failed : report.Corruptions > 0 ? Corrupt : report.Leaks > 0 ? Leaking : 0;
    }

    private static async ValueTask<CheckOutput> ExamineAsync(Session session, Arguments arguments, Disk disk, RepairMode? mode)
    {
        var explanation = arguments.Has(s_explain) ? new FindingExplanation() : null;
        Action<CheckFinding> tell = explanation is null ? finding => Tell(session, finding) : explanation.Add;
        var stop = session.WatchInterrupts();
        try
        {
            CheckReport report;
            RepairReport? repair = null;
            var undoFile = mode is null ? null : UndoFileFor(session, arguments, disk);
            var undoFiles = new List<string>();
            if (mode is null)
            {
                report = await disk.CheckAsync(tell, null, stop).ConfigureAwait(false);
            }
            else
            {
                repair = await disk.RepairAsync(new(mode.Value) { UndoFile = undoFile, OnUndoFile = undoFiles.Add }, tell, null, stop).ConfigureAwait(false);
                report = repair.Check;
            }

            if (explanation is not null)
            {
                await explanation.FindUsersAsync(disk, stop).ConfigureAwait(false);
            }

            return new(report, repair, undoFiles, explanation);
        }
        catch (BlockException e)
        {
            // The findings so far are why.
            explanation?.WriteText(session.Error);
            session.Error.Flush();
            throw e.Kind == BlockErrorKind.Unsupported ? new CommandException(NotSupported, e.Message, e) : new CommandException(Failed, e.Message, e);
        }
    }

    private static RepairMode? ModeOf(Arguments arguments) => arguments.Get(s_repair) switch
    {
        null => null,
        "leaks" => RepairMode.Leaks,
        "all" => RepairMode.All,
        var other => throw new UsageException($"Unknown option value for -r (expecting 'leaks' or 'all'): {other}", pointToHelp: true),
    };

    // Scripts that call us by the peer's name expect no files that they did not ask for.
    private static string? UndoFileFor(Session session, Arguments arguments, Disk disk)
    {
        if (arguments.Get(s_undo) is { } given)
        {
            return given;
        }

        if (session.ProgramName == "qemu-img")
        {
            return null;
        }

        var image = Path.TrimEndingDirectorySeparator(disk.Node.Name);
        if (!Path.Exists(image))
        {
            throw new UsageException($"-r: '{image}' is no regular file; --undo FILE says where to keep what takes the repair back");
        }

        var file = $"{image}.undo";
        for (var number = 2; Path.Exists(file); number++)
        {
            file = string.Create(CultureInfo.InvariantCulture, $"{image}.undo{number}");
        }

        return file;
    }

    private static void TellUndo(Session session, IReadOnlyList<string> undoFiles)
    {
        foreach (var file in undoFiles)
        {
            session.Error.Write($"What takes the repair back is in '{SafeText.Clean(file)}': check --undo plays it back.\n");
        }

        session.Error.Flush();
    }

    private static async ValueTask<int> UndoAsync(Session session, Arguments arguments, string undoFile)
    {
        if (arguments.Has(s_explain) || arguments.Has(CommonOptions.ImageOpts) || arguments.Operands.Count > 1)
        {
            throw new UsageException("--undo FILE without -r takes the image's file name, or nothing for the name it had, and changes it back");
        }

        var image = await Disk.UndoRepairAsync(undoFile, arguments.Operands.Count == 0 ? null : arguments.Operands[0], session.WatchInterrupts()).ConfigureAwait(false);
        if (!arguments.Has(CommonOptions.Quiet))
        {
            session.Out.Write($"'{SafeText.Clean(image)}' is again what it was before the repair.\n");
        }

        return 0;
    }

    // Not flushed line by line: a badly damaged image has a finding for every cluster.
    private static void Tell(Session session, CheckFinding finding)
    {
        if (finding.File is { } file)
        {
            session.Error.Write(SafeText.Clean(file));
            session.Error.Write(": ");
        }

        session.Error.Write(SafeText.Clean(finding.Message));
        session.Error.Write('\n');
    }
}
