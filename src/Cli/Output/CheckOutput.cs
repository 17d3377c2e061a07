using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Output;

/// <summary>What <c>check</c> says in the end, as the peers write it.</summary>
/// <param name="Report">How the image is now.</param>
/// <param name="Repair">What a repair did; null for a check alone.</param>
/// <param name="UndoFiles">Where the state before the repair is kept: one file for each image that changed.</param>
/// <param name="Explanation">The findings explained, or null when nobody asked.</param>
internal sealed record CheckOutput(CheckReport Report, RepairReport? Repair, IReadOnlyList<string> UndoFiles, FindingExplanation? Explanation)
{
    /// <summary>For people.</summary>
    public void WriteText(TextWriter writer)
    {
        Explanation?.WriteText(writer);
        if (Repair is { CorruptionsFixed: > 0 } or { LeaksFixed: > 0 })
        {
            writer.Write($"The following inconsistencies were found and repaired:\n\n    {Repair.LeaksFixed} leaked clusters\n    {Repair.CorruptionsFixed} corruptions\n\n");
            writer.Write("Double checking the fixed image now...\n");
        }

        if (Report is { Corruptions: 0, Leaks: 0, Errors: 0 })
        {
            writer.Write("No errors were found on the image.\n");
        }

        if (Report.Corruptions > 0)
        {
            writer.Write($"\n{Report.Corruptions} errors were found on the image.\n");
            writer.Write("Data may be corrupted, or further writes to the image may corrupt it.\n");
        }

        if (Report.Leaks > 0)
        {
            writer.Write($"\n{Report.Leaks} leaked clusters were found on the image.\n");
            writer.Write("This means waste of disk space, but no harm to data.\n");
        }

        if (Report.Errors > 0)
        {
            writer.Write($"\n{Report.Errors} internal errors have occurred during the check.\n");
        }

        if (Report is { TotalClusters: > 0, AllocatedClusters: > 0 })
        {
            writer.Write(string.Create(
                CultureInfo.InvariantCulture,
                $"{Report.AllocatedClusters}/{Report.TotalClusters} = {Percent(Report.AllocatedClusters, Report.TotalClusters):0.00}% allocated, "));
            writer.Write(string.Create(
                CultureInfo.InvariantCulture,
                $"{Percent(Report.FragmentedClusters, Report.AllocatedClusters):0.00}% fragmented, {Percent(Report.CompressedClusters, Report.AllocatedClusters):0.00}% compressed clusters\n"));
        }

        if (Report.ImageEndOffset is { } end and > 0)
        {
            writer.Write($"Image end offset: {end}\n");
        }
    }

    /// <summary>For programs.</summary>
    public void WriteJson(TextWriter writer, string format, string name)
    {
        var json = new JsonOutput(writer);
        json.BeginObject();
        MemberUnlessZero(json, "image-end-offset", Report.ImageEndOffset ?? 0);
        MemberUnlessZero(json, "compressed-clusters", Report.CompressedClusters);
        MemberUnlessZero(json, "total-clusters", Report.TotalClusters);
        MemberUnlessZero(json, "corruptions-fixed", Repair?.CorruptionsFixed ?? 0);
        MemberUnlessZero(json, "corruptions", Report.Corruptions);
        json.Member("check-errors", Report.Errors);
        MemberUnlessZero(json, "leaks-fixed", Repair?.LeaksFixed ?? 0);
        MemberUnlessZero(json, "leaks", Report.Leaks);
        MemberUnlessZero(json, "allocated-clusters", Report.AllocatedClusters);
        json.Member("filename", name);
        json.Member("format", format);
        MemberUnlessZero(json, "fragmented-clusters", Report.FragmentedClusters);
        if (UndoFiles.Count > 0)
        {
            json.Member("undo-file", SafeText.Clean(UndoFiles[0]));
        }

        if (UndoFiles.Count > 1)
        {
            json.Name("undo-files");
            json.BeginArray();
            foreach (var file in UndoFiles)
            {
                json.Value(SafeText.Clean(file));
            }

            json.EndArray();
        }

        Explanation?.WriteJson(json);
        json.EndObject();
        json.Finish();
    }

    // Halves go to the even neighbour, as the C library prints them.
    private static double Percent(long part, long whole) => Math.Round(part * 100.0 / whole, 2);

    private static void MemberUnlessZero(JsonOutput json, string name, long number)
    {
        if (number != 0)
        {
            json.Member(name, number);
        }
    }
}
