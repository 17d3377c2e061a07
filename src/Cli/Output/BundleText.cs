using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Output;

/// <summary>Writes the states of a bundle as a tree: every snapshot below the one it was made from, with what it occupies.</summary>
/// <remarks>The tree is drawn here and not by a library: it takes these few lines, a library a tenth of a second and 1.4 MB
/// (docs/design/command-line.md).</remarks>
internal static class BundleText
{
    private const int MaxFiles = 48;
    private const int MaxStates = 1000;
    private const int MaxDepth = 64;

    /// <summary>Whether an image of the state that was asked for cannot be opened.</summary>
    /// <param name="info">What the driver told.</param>
    public static bool IsBroken(ImageInfo info) => FindProblem(info) is not null;

    /// <summary>Why an image of the state that was asked for cannot be opened; null when all can.</summary>
    /// <param name="info">What the driver told.</param>
    public static string? FindProblem(ImageInfo info) => InfoText.FormatSpecificData(info)?["layers"] is not JsonArray layers ? null
        : layers.OfType<JsonObject>().Where(layer => Flag(layer, "opened")).SelectMany(layer => (layer["images"] as JsonArray ?? []).OfType<JsonObject>())
            .Select(image => Text(image, "error")).FirstOrDefault(error => error is not null);

    /// <summary>Writes what only bundles have.</summary>
    /// <param name="writer">Where to.</param>
    /// <param name="data">The format's own part of <c>info</c>.</param>
    /// <param name="layers">Its list of layers: parents before children, each with its depth.</param>
    /// <param name="drawLines">Connect the states with lines, for a terminal; otherwise they are indented.</param>
    public static void Write(TextWriter writer, JsonObject data, JsonArray layers, bool drawLines)
    {
        WriteField(writer, "disk name", Text(data, "name"));
        WriteField(writer, "parent bundle", Text(data, "parent-bundle"));
        if (data["storages"] is JsonArray { Count: > 1 } storages)
        {
            writer.Write(string.Create(CultureInfo.InvariantCulture, $"split into: {storages.Count} parts\n"));
        }

        writer.Write("States, each below the one it was made from:\n");
        var shown = Math.Min(layers.Count, MaxStates);
        var siblings = LaterSiblings(layers, shown);
        for (var i = 0; i < shown; i++)
        {
            if (layers[i] is JsonObject layer)
            {
                var depth = Depth(layer);
                WriteLayer(writer, layer, Indent(depth, siblings[i], drawLines, isLabel: true), Indent(depth, siblings[i], drawLines, isLabel: false));
            }
        }

        if (layers.Count > shown)
        {
            writer.Write(string.Create(CultureInfo.InvariantCulture, $"    and {layers.Count - shown} more, with --output=json\n"));
        }

        WriteFiles(writer, layers);
        WriteBitmaps(writer, layers);
    }

    private static void WriteBitmaps(TextWriter writer, JsonArray layers)
    {
        var lines = new List<string>();
        foreach (var layer in layers.OfType<JsonObject>())
        {
            foreach (var bitmap in (layer["images"] as JsonArray ?? []).OfType<JsonObject>().SelectMany(image => image["bitmaps"] as JsonArray ?? []).OfType<JsonObject>())
            {
                var granularity = bitmap["granularity"] is JsonValue value && value.TryGetValue(out long bytes) ? $", granularity {SizeText.Format(bytes)}" : string.Empty;
                var line = $"    {SafeText.Clean(Text(bitmap, "name") ?? "?", 256)}{granularity}: {LabelOf(layer, withId: true)}\n";

                // Those of a split disk's parts follow each other.
                if (lines.Count == 0 || lines[^1] != line)
                {
                    lines.Add(line);
                }
            }
        }

        if (lines.Count > 0)
        {
            writer.Write("Dirty bitmaps:\n");
            writer.Write(string.Concat(lines.Take(MaxFiles)));
            writer.Write(lines.Count > MaxFiles ? string.Create(CultureInfo.InvariantCulture, $"    and {lines.Count - MaxFiles} more, with --output=json\n") : string.Empty);
        }
    }

    private static void WriteFiles(TextWriter writer, JsonArray layers)
    {
        var lines = new List<string>();
        foreach (var item in layers)
        {
            foreach (var entry in (item as JsonObject)?["images"] as JsonArray ?? [])
            {
                if (item is JsonObject layer && entry is JsonObject image && Text(image, "file") is { } file)
                {
                    var size = image["actual-size"] is JsonValue value && value.TryGetValue(out long bytes) ? $", {SizeText.Format(bytes)}" : string.Empty;
                    var parent = Text(image, "parent-bundle") is null ? string.Empty : ", in the parent bundle";
                    lines.Add($"    {SafeText.Clean(file, 512)}{size}{parent}: {LabelOf(layer, withId: true)}\n");
                }
            }
        }

        if (lines.Count > 0)
        {
            writer.Write("Files:\n");
            writer.Write(string.Concat(lines.Take(MaxFiles)));
            writer.Write(lines.Count > MaxFiles ? string.Create(CultureInfo.InvariantCulture, $"    and {lines.Count - MaxFiles} more, with --output=json\n") : string.Empty);
        }
    }

    // What a person calls it; only what has no name of its own is told apart by its id.
    private static string LabelOf(JsonObject layer, bool withId) =>
        Text(layer, "name") is { Length: > 0 } name ? SafeText.Clean(name, 256)
        : Flag(layer, "top") ? "current state"
        : (Flag(layer, "deleted") ? "deleted state" : "state") + (withId ? $" {SafeText.Clean(Text(layer, "guid") ?? "?", 64)}" : string.Empty);

    private static void WriteLayer(TextWriter writer, JsonObject layer, string indent, string deeperIndent)
    {
        var line = new StringBuilder(indent);
        line.Append(LabelOf(layer, withId: false));
        line.Append(' ').Append(SafeText.Clean(Text(layer, "guid") ?? "?", 64));
        if (Text(layer, "date") is { } date)
        {
            line.Append(' ').Append(SafeText.Clean(date, 64).Replace('T', ' ').TrimEnd('Z'));
        }

        var problems = new List<string>();
        long allocated = 0;
        foreach (var item in layer["images"] as JsonArray ?? [])
        {
            if (item is not JsonObject image)
            {
                continue;
            }

            allocated += image["actual-size"] is JsonValue size && size.TryGetValue(out long bytes) ? bytes : 0;
            var file = SafeText.Clean(Text(image, "file") ?? "?", 512);
            if (Text(image, "error") is { } error)
            {
                problems.Add(error.StartsWith(file, StringComparison.Ordinal) ? SafeText.Clean(error) : $"{file}: {SafeText.Clean(error)}");
            }
            else if (Flag(image, "dirty-flag"))
            {
                problems.Add($"{file}: was not closed properly");
            }
        }

        line.Append(", ").Append(SizeText.Format(allocated));
        line.Append(Flag(layer, "opened") ? "  <- this one" : Flag(layer, "top") ? "  <- current" : string.Empty);
        writer.Write(line.Append('\n'));
        foreach (var problem in problems)
        {
            writer.Write($"{deeperIndent}! {problem}\n");
        }
    }

    // A state's own corner, and for each of its ancestors a line past it if siblings of that ancestor follow below.
    private static string Indent(int depth, ulong laterSiblings, bool drawLines, bool isLabel)
    {
        var text = new StringBuilder("    ");
        for (var level = 1; level <= depth; level++)
        {
            var more = (laterSiblings & (1UL << (level - 1))) != 0;
            text.Append(!drawLines ? "    " : level < depth || !isLabel ? (more ? "│   " : "    ") : more ? "├── " : "└── ");
        }

        return text.Append(isLabel ? string.Empty : "    ").ToString();
    }

    // For each state a bit for every level from 1 on: whether its ancestor there, or it itself, has siblings that follow. From the last one up, so that a hostile tree of many
    // thousand states costs one look at each.
    private static ulong[] LaterSiblings(JsonArray layers, int count)
    {
        var result = new ulong[count];
        ulong later = 0;
        for (var i = layers.Count - 1; i >= 0; i--)
        {
            if (i < count)
            {
                result[i] = later;
            }

            // Above this one it is a sibling on its own level, and ends every deeper one.
            var depth = Depth(layers[i]);
            later = depth == 0 ? 0 : (later & ((1UL << (depth - 1)) - 1)) | (1UL << (depth - 1));
        }

        return result;
    }

    private static int Depth(JsonNode? layer) => layer?["depth"] is JsonValue value && value.TryGetValue(out int depth) ? Math.Clamp(depth, 0, MaxDepth) : 0;

    private static string? Text(JsonObject members, string name) => members[name] is JsonValue value && value.TryGetValue(out string? text) ? text : null;

    private static bool Flag(JsonObject members, string name) => members[name] is JsonValue value && value.TryGetValue(out bool flag) && flag;

    private static void WriteField(TextWriter writer, string label, string? value)
    {
        if (value is { Length: > 0 })
        {
            writer.Write($"{label}: {SafeText.Clean(value)}\n");
        }
    }
}
