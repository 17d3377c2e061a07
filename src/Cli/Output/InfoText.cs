using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Output;

/// <summary>Writes what <c>info</c> tells of an image as text: line for line what qemu-img prints, because scripts read it.</summary>
internal static class InfoText
{
    private const int IdWidth = 9, GuidWidth = 38;

    /// <summary>Writes one image.</summary>
    /// <param name="writer">Where to.</param>
    /// <param name="info">What the driver told.</param>
    /// <param name="forTerminal">A person looks: trees have lines.</param>
    public static void Write(TextWriter writer, ImageInfo info, bool forTerminal = false)
    {
        Line(writer, "image", info.FileName);
        Line(writer, "file format", info.Format);
        Line(writer, "virtual size", $"{SizeText.Format(info.VirtualSize)} ({info.VirtualSize} bytes)");
        Line(writer, "disk size", info.AllocatedSize is { } allocated ? SizeText.Format(allocated) : "unavailable");
        if (info.Encrypted)
        {
            Line(writer, "encrypted", "yes");
        }

        if (info.ClusterSize is { } clusterSize and > 0)
        {
            Line(writer, "cluster_size", clusterSize.ToString(CultureInfo.InvariantCulture));
        }

        if (info.Dirty == true)
        {
            Line(writer, "cleanly shut down", "no");
        }

        if (info.BackingName is { } backing)
        {
            var actual = info.FullBackingName is not { } full ? " (cannot determine actual path)" : full == backing ? string.Empty : $" (actual path: {full})";
            Line(writer, "backing file", backing + actual);
            if (info.BackingFormat is { } format)
            {
                Line(writer, "backing file format", format);
            }
        }

        var data = FormatSpecificData(info);
        if (data?["layers"] is JsonArray layers)
        {
            BundleText.Write(writer, data, layers, forTerminal);
            return;
        }

        WriteSnapshots(writer, info.Snapshots);
        WriteFormatSpecific(writer, info);
    }

    /// <summary>Writes what only this format has, unless there is nothing.</summary>
    public static void WriteFormatSpecific(TextWriter writer, ImageInfo info)
    {
        if (FormatSpecificData(info) is { Count: > 0 } data)
        {
            writer.Write("Format specific information:\n");
            WriteMembers(writer, data, 1);
        }
    }

    /// <summary>Writes the table of snapshots, unless there are none.</summary>
    public static void WriteSnapshots(TextWriter writer, IReadOnlyList<SnapshotInfo> snapshots)
    {
        if (snapshots.Count == 0)
        {
            return;
        }

        writer.Write("Snapshot list:\n");
        // Of a bundle the ids are GUIDs; for others the peer's width, which scripts know.
        var idWidth = snapshots.Any(snapshot => snapshot.Id.StartsWith('{')) ? GuidWidth : IdWidth;
        WriteRow(writer, idWidth, "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
        foreach (var snapshot in snapshots)
        {
            var seconds = snapshot.VmClockNanoseconds / 1_000_000_000;
            var clock = $"{seconds / 3600:00}:{seconds / 60 % 60:00}:{seconds % 60:00}.{snapshot.VmClockNanoseconds / 1_000_000 % 1000:000}";
            WriteRow(
                writer,
                idWidth,
                SafeText.Clean(snapshot.Id, 256),
                SafeText.Clean(snapshot.Name, 1024),
                SizeText.Format(snapshot.VmStateSize),
                snapshot.Date == default ? string.Empty : snapshot.Date.ToLocalTime().ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture),
                clock,
                snapshot.InstructionCount is { } count ? unchecked((long)count).ToString(CultureInfo.InvariantCulture) : string.Empty);
        }
    }

    /// <summary>The members of the format's own part, whether or not the driver wrapped them in <c>type</c> and <c>data</c>.</summary>
    public static JsonObject? FormatSpecificData(ImageInfo info) =>
        info.FormatSpecific is { } specific && specific.ContainsKey("type") && specific["data"] is JsonObject data ? data : info.FormatSpecific;

    private static void Line(TextWriter writer, string label, string value)
    {
        writer.Write(label);
        writer.Write(": ");
        writer.Write(SafeText.Clean(value));
        writer.Write('\n');
    }

    private static void WriteRow(TextWriter writer, int idWidth, string id, string tag, string size, string date, string clock, string count)
    {
        WritePadded(writer, id, idWidth);
        writer.Write(' ');
        WritePadded(writer, tag, 16);
        writer.Write(' ');
        writer.Write(size.PadLeft(8));
        writer.Write(date.PadLeft(20));
        writer.Write(clock.PadLeft(13));
        writer.Write(count.PadLeft(11));
        writer.Write('\n');
    }

    // Padded by bytes, as C does it.
    private static void WritePadded(TextWriter writer, string text, int width)
    {
        writer.Write(text);
        for (var i = Encoding.UTF8.GetByteCount(text); i < width; i++)
        {
            writer.Write(' ');
        }
    }

    private static void WriteMembers(TextWriter writer, JsonObject members, int depth)
    {
        foreach (var (name, value) in members)
        {
            WriteNode(writer, SafeText.Clean(name, 256).Replace('-', ' '), value, depth);
        }
    }

    private static void WriteNode(TextWriter writer, string label, JsonNode? node, int depth)
    {
        for (var i = 0; i < depth; i++)
        {
            writer.Write("    ");
        }

        writer.Write(label);
        writer.Write(':');
        switch (node)
        {
            case JsonObject members:
                writer.Write('\n');
                WriteMembers(writer, members, depth + 1);
                break;
            case JsonArray items:
                writer.Write('\n');
                for (var i = 0; i < items.Count; i++)
                {
                    WriteNode(writer, $"[{i}]", items[i], depth + 1);
                }

                break;
            default:
                writer.Write(' ');
                writer.Write(Scalar(node));
                writer.Write('\n');
                break;
        }
    }

    private static string Scalar(JsonNode? node) => node switch
    {
        null => "null",
        JsonValue value when value.GetValueKind() == JsonValueKind.String => SafeText.Clean(value.GetValue<string>()),
        _ => node.ToJsonString(),
    };
}
