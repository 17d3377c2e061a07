using System.Globalization;
using Platter.Nbd.Client;

namespace Platter.Cli.Output;

/// <summary>What a metadata context says of an export, in nbdinfo's form.</summary>
internal static class NbdMapOutput
{
    /// <summary>The context that everybody means who names none.</summary>
    public const string Allocation = "base:allocation";

    private const string Depth = "qemu:allocation-depth";
    private const string BitmapPrefix = "qemu:dirty-bitmap:";

    public static async ValueTask WriteAsync(
        TextWriter writer, NbdStorage storage, string context, bool totals, bool json, CancellationToken cancellationToken)
    {
        var sums = new SortedDictionary<ulong, long>();
        var any = false;
        if (json)
        {
            writer.Write("[\n");
        }

        await foreach (var extent in ReadAsync(storage, context, cancellationToken).ConfigureAwait(false))
        {
            if (totals)
            {
                sums[extent.Status] = sums.GetValueOrDefault(extent.Status) + extent.Length;
                continue;
            }

            var what = Describe(context, extent.Status);
            writer.Write(
                json ? $"{(any ? ",\n" : string.Empty)}{{ \"offset\": {extent.Start}, \"length\": {extent.Length}, \"type\": {extent.Status}{Member(what, string.Empty)}}}"
                : $"{extent.Start,10}  {extent.Length,10}  {extent.Status,3}{(what is null ? string.Empty : $"  {what}")}\n");
            any = true;
        }

        foreach (var (status, size) in sums)
        {
            var what = Describe(context, status);
            var percent = 100.0 * size / Math.Max(1, storage.Length);
            writer.Write(
                json ? string.Create(CultureInfo.InvariantCulture, $"{(any ? ",\n" : string.Empty)}{{ \"size\": {size}, \"percent\": {percent:G6}, \"type\": {status}{Member(what, " ")}}}")
                : string.Create(CultureInfo.InvariantCulture, $"{size,10} {percent,5:F1}% {status,3}{(what is null ? string.Empty : $" {what}")}\n"));
            any = true;
        }

        if (json)
        {
            writer.Write(any ? "\n]\n" : "]\n");
        }
    }

    // Neighbours of one status are one.
    private static async IAsyncEnumerable<NbdContextExtent> ReadAsync(
        NbdStorage storage, string context, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        NbdContextExtent? last = null;
        for (long at = 0; at < storage.Length;)
        {
            foreach (var extent in await storage.ReadContextAsync(context, at, storage.Length - at, cancellationToken).ConfigureAwait(false))
            {
                at = extent.Start + extent.Length;
                if (last is { } before && before.Status == extent.Status)
                {
                    last = before with { Length = before.Length + extent.Length };
                    continue;
                }

                if (last is { } done)
                {
                    yield return done;
                }

                last = extent;
            }
        }

        if (last is { } final)
        {
            yield return final;
        }
    }

    private static string Member(string? description, string end) => description is null ? end : $", \"description\": \"{description}\"{end}";

    private static string? Describe(string context, ulong status) => (context, status) switch
    {
        (Allocation, 0) => "data",
        (Allocation, 1) => "hole",
        (Allocation, 2) => "zero",
        (Allocation, 3) => "hole,zero",
        (Depth, 0) => "absent",
        (Depth, 1) => "local",
        (Depth, _) => $"backing depth {status}",
        (_, 0) when context.StartsWith(BitmapPrefix, StringComparison.Ordinal) => "clean",
        (_, 1) when context.StartsWith(BitmapPrefix, StringComparison.Ordinal) => "dirty",
        _ => null,
    };
}
