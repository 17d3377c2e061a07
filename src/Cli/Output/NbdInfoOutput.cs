using System.Globalization;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;

namespace Platter.Cli.Output;

/// <summary>What servers and exports say of themselves, in nbdinfo's words.</summary>
internal static class NbdInfoOutput
{
    private static readonly (string Name, NbdTransmissionFlags Flag)[] s_abilities =
    [
        ("can_block_status_payload", NbdTransmissionFlags.BlockStatusPayload), ("can_cache", NbdTransmissionFlags.SendCache), ("can_df", NbdTransmissionFlags.SendDf),
        ("can_fast_zero", NbdTransmissionFlags.SendFastZero), ("can_flush", NbdTransmissionFlags.SendFlush), ("can_fua", NbdTransmissionFlags.SendFua), ("can_multi_conn", NbdTransmissionFlags.CanMultiConn),
        ("can_trim", NbdTransmissionFlags.SendTrim), ("can_zero", NbdTransmissionFlags.SendWriteZeroes),
    ];

    /// <summary>Writes all of it.</summary>
    /// <param name="writer">Where to.</param>
    /// <param name="info">What the server said.</param>
    /// <param name="address">Where the server is; null when that is of no use to others.</param>
    /// <param name="contents">What is in the exports, in their order, where that was looked at.</param>
    /// <param name="asJson">As JSON.</param>
    public static void Write(TextWriter writer, NbdServerInfo info, NbdAddress? address, IReadOnlyList<string?> contents, bool asJson)
    {
        if (asJson)
        {
            WriteJson(writer, info, address, contents);
        }
        else
        {
            WriteText(writer, info, address, contents);
        }
    }

    private static void WriteText(TextWriter writer, NbdServerInfo info, NbdAddress? address, IReadOnlyList<string?> contents)
    {
        var packets = info.HasExtendedHeaders ? "extended" : info.HasStructuredReplies ? "structured" : "simple";
        writer.Write($"protocol: {Protocol(info)} {(info.IsEncrypted ? "with" : "without")} TLS, using {packets} packets\n");
        foreach (var (export, content) in info.Exports.Select((export, i) => (export, contents.ElementAtOrDefault(i))))
        {
            writer.Write($"export=\"{SafeText.Clean(export.Name)}\":\n");
            if (export.Description.Length > 0)
            {
                writer.Write($"\tdescription: {SafeText.Clean(export.Description)}\n");
            }

            if (export.Size is { } size)
            {
                WriteSize(writer, "export-size", size);
            }

            if (content is not null)
            {
                writer.Write($"\tcontent: {content}\n");
            }

            if (address is not null)
            {
                writer.Write($"\turi: {SafeText.Clean(NbdArguments.Uri(address.WithExport(export.Name)))}\n");
            }

            if (export.Contexts.Count > 0)
            {
                writer.Write("\tcontexts:\n");
                foreach (var context in export.Contexts)
                {
                    writer.Write($"\t\t{SafeText.Clean(context)}\n");
                }
            }

            if (export.Size is null)
            {
                continue;
            }

            writer.Write($"\tis_rotational: {Word(export, NbdTransmissionFlags.Rotational)}\n");
            writer.Write($"\tis_read_only: {Word(export, NbdTransmissionFlags.ReadOnly)}\n");
            foreach (var (name, flag) in s_abilities)
            {
                writer.Write($"\t{name}: {Word(export, flag)}\n");
            }

            if (export.BlockSizes is { } sizes)
            {
                WriteSize(writer, "block_size_minimum", sizes.Minimum);
                WriteSize(writer, "block_size_preferred", sizes.Preferred);
                WriteSize(writer, "block_size_maximum", sizes.Maximum);
            }
        }
    }

    private static void WriteJson(TextWriter writer, NbdServerInfo info, NbdAddress? address, IReadOnlyList<string?> contents)
    {
        var json = new JsonOutput(writer);
        json.BeginObject();
        json.Member("protocol", Protocol(info));
        json.Member("TLS", info.IsEncrypted);
        json.Member("structured", info.HasStructuredReplies);
        json.Member("extended", info.HasExtendedHeaders);
        json.Name("exports");
        json.BeginArray();
        foreach (var (export, content) in info.Exports.Select((export, i) => (export, contents.ElementAtOrDefault(i))))
        {
            json.BeginObject();
            json.Member("export-name", export.Name);
            if (export.Description.Length > 0)
            {
                json.Member("description", export.Description);
            }

            if (content is not null)
            {
                json.Member("content", content);
            }

            if (address is not null)
            {
                json.Member("uri", NbdArguments.Uri(address.WithExport(export.Name)));
            }

            if (export.Contexts.Count > 0)
            {
                json.Name("contexts");
                json.BeginArray();
                foreach (var context in export.Contexts)
                {
                    json.Value(context);
                }

                json.EndArray();
            }

            if (export.Size is { } size)
            {
                json.Member("is_rotational", Has(export, NbdTransmissionFlags.Rotational));
                json.Member("is_read_only", Has(export, NbdTransmissionFlags.ReadOnly));
                foreach (var (name, flag) in s_abilities)
                {
                    json.Member(name, Has(export, flag));
                }

                if (export.BlockSizes is { } sizes)
                {
                    json.Member("block_size_minimum", sizes.Minimum);
                    json.Member("block_size_preferred", sizes.Preferred);
                    json.Member("block_size_maximum", sizes.Maximum);
                }

                json.Member("export-size", size);
                json.Member("export-size-str", HumanSize(size));
            }

            json.EndObject();
        }

        json.EndArray();
        json.EndObject();
        json.Finish();
    }

    /// <summary>A size in the largest unit that divides it: 64M, 2075312K, 1000.</summary>
    public static string HumanSize(long size)
    {
        const string Units = "KMGTPE";
        var unit = -1;
        while (unit + 1 < Units.Length && size > 0 && size % 1024 == 0)
        {
            size /= 1024;
            unit++;
        }

        return unit < 0 ? size.ToString(CultureInfo.InvariantCulture) : $"{size}{Units[unit]}";
    }

    private static void WriteSize(TextWriter writer, string name, long size) =>
        writer.Write(size > 0 && size % 1024 == 0 ? $"\t{name}: {size} ({HumanSize(size)})\n" : $"\t{name}: {size}\n");

    private static string Protocol(NbdServerInfo info) => info.HasFixedHandshake ? "newstyle-fixed" : "newstyle";

    private static bool Has(NbdExportDescription export, NbdTransmissionFlags flag) => (export.Flags & flag) != 0;

    private static string Word(NbdExportDescription export, NbdTransmissionFlags flag) => Has(export, flag) ? "true" : "false";
}
