using System.Globalization;
using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Commands;

/// <summary><c>check</c>: are an image's structures, or those of every file of a bundle, consistent?</summary>
internal sealed class CheckCommand : Command
{
    private const int Failed = 1;
    private const int Corrupt = 2;
    private const int Leaking = 3;
    private const int NotSupported = 63;

    private static readonly Option s_repair = new('r', "repair", "leaks|all", string.Empty);

    public override string Name => "check";

    public override string Summary => "Verify an image's structures: tables, reference counts, and for a bundle every file against its descriptor.";

    public override string Operands => "IMAGE";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, CommonOptions.Format, CommonOptions.Output, CommonOptions.Quiet, CommonOptions.ImageOpts, CommonOptions.ForceShare,
        CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk, CommonOptions.SourceCache, CommonOptions.Untrusted, s_repair,
    ];

    public override string Details =>
        "Findings go to standard error, one per line.\n"
        + "Exit code: 0 nothing was found; 1 the check failed; 2 the image is corrupt; 3 space is leaked and nothing worse; "
        + "63 the format has nothing to check.";

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var json = WantsJson(arguments);
        var name = OneImage(arguments);
        if (arguments.Get(s_repair) is { } what)
        {
            throw new UsageException(what is "leaks" or "all"
                ? "-r: repairing is not in this version yet; nothing was changed"
                : "-r expects 'leaks' or 'all', and repairing is not in this version yet");
        }

        if (arguments.Get(CommonOptions.SourceCache) is { } cache && !CommonOptions.IsCacheMode(cache))
        {
            throw new UsageException($"Invalid source cache option: {cache}");
        }

        var images = ImageArguments.From(arguments, session);
        var disk = await images.OpenAsync(name, static options => options with { MetadataOnly = true }).ConfigureAwait(false);
        await using var closing = disk.ConfigureAwait(false);
        CheckReport report;
        try
        {
            report = await disk.CheckAsync(finding => Tell(session, finding), null, session.WatchInterrupts()).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.Unsupported)
        {
            throw new CommandException(NotSupported, e.Message, e);
        }

        session.Error.Flush();
        if (!arguments.Has(CommonOptions.Quiet))
        {
            if (json)
            {
                WriteJson(session.Out, disk, name, report);
            }
            else
            {
                WriteText(session.Out, report);
            }
        }

        return report.Errors > 0 ? Failed : report.Corruptions > 0 ? Corrupt : report.Leaks > 0 ? Leaking : 0;
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

    private static void WriteText(TextWriter writer, CheckReport report)
    {
        if (report is { Corruptions: 0, Leaks: 0, Errors: 0 })
        {
            writer.Write("No errors were found on the image.\n");
        }

        if (report.Corruptions > 0)
        {
            writer.Write($"\n{report.Corruptions} errors were found on the image.\n");
            writer.Write("Data may be corrupted, or further writes to the image may corrupt it.\n");
        }

        if (report.Leaks > 0)
        {
            writer.Write($"\n{report.Leaks} leaked clusters were found on the image.\n");
            writer.Write("This means waste of disk space, but no harm to data.\n");
        }

        if (report.Errors > 0)
        {
            writer.Write($"\n{report.Errors} internal errors have occurred during the check.\n");
        }

        if (report is { TotalClusters: > 0, AllocatedClusters: > 0 })
        {
            writer.Write(string.Create(
                CultureInfo.InvariantCulture,
                $"{report.AllocatedClusters}/{report.TotalClusters} = {Percent(report.AllocatedClusters, report.TotalClusters):0.00}% allocated, "));
            writer.Write(string.Create(
                CultureInfo.InvariantCulture,
                $"{Percent(report.FragmentedClusters, report.AllocatedClusters):0.00}% fragmented, {Percent(report.CompressedClusters, report.AllocatedClusters):0.00}% compressed clusters\n"));
        }

        if (report.ImageEndOffset is { } end and > 0)
        {
            writer.Write($"Image end offset: {end}\n");
        }
    }

    // Halves go to the even neighbour, as the C library prints them.
    private static double Percent(long part, long whole) => Math.Round(part * 100.0 / whole, 2);

    private static void WriteJson(TextWriter writer, Disk disk, string name, CheckReport report)
    {
        var json = new JsonOutput(writer);
        json.BeginObject();
        MemberUnlessZero(json, "image-end-offset", report.ImageEndOffset ?? 0);
        MemberUnlessZero(json, "compressed-clusters", report.CompressedClusters);
        MemberUnlessZero(json, "total-clusters", report.TotalClusters);
        MemberUnlessZero(json, "corruptions", report.Corruptions);
        json.Member("check-errors", report.Errors);
        MemberUnlessZero(json, "leaks", report.Leaks);
        MemberUnlessZero(json, "allocated-clusters", report.AllocatedClusters);
        json.Member("filename", name);
        json.Member("format", disk.Format);
        MemberUnlessZero(json, "fragmented-clusters", report.FragmentedClusters);
        json.EndObject();
        json.Finish();
    }

    private static void MemberUnlessZero(JsonOutput json, string name, long number)
    {
        if (number != 0)
        {
            json.Member(name, number);
        }
    }
}
