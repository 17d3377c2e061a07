using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Options;

/// <summary>The <c>-o</c> options of a new image: every occurrence together, the last value of a key wins.</summary>
internal static class CreateOptions
{
    /// <summary>Parses all occurrences.</summary>
    /// <param name="texts">The arguments of <c>-o</c>.</param>
    /// <returns>The options; a lone word such as <c>help</c> is a key with a null value.</returns>
    public static NodeOptions Parse(IEnumerable<string> texts)
    {
        var result = new NodeOptions();
        foreach (var text in texts)
        {
            // One comma at either end leaves an option without a name.
            if (text.Length == 0 || text[0] == ',' || (text.Length - text.TrimEnd(',').Length) % 2 == 1)
            {
                throw new UsageException($"Invalid option list: {SafeText.Clean(text, 256)}");
            }

            foreach (var (key, value) in NodeOptions.SplitKeyValues(text))
            {
                result[key] = value;
            }
        }

        return result;
    }

    /// <summary>Whether the user asks what options there are.</summary>
    public static bool AsksForHelp(NodeOptions options) => options.Has("help") || options.Has("?");

    /// <summary>Lists a format's options as the peers do.</summary>
    /// <param name="writer">Where to.</param>
    /// <param name="format">The format's name.</param>
    /// <param name="withFile">A file was named, so that options of files in general belong to the list.</param>
    /// <exception cref="UsageException">Nobody knows the format.</exception>
    public static void WriteHelp(TextWriter writer, string format, bool withFile)
    {
        if (!KnownFormats.Registry.Knows(format))
        {
            throw new UsageException($"Unknown file format '{SafeText.Clean(format, 64)}'");
        }

        writer.Write(withFile ? "Supported options:\n" : $"Supported {format} options:\n");
        var options = KnownFormats.Registry.CreateOptionsOf(format).Options
            .Where(option => withFile || !IsOfFiles(option.Name, format))
            .OrderBy(option => option.Name, StringComparer.Ordinal);
        WriteOptions(writer, options);
        if (!withFile)
        {
            writer.Write("\nThe protocol level may support further options.\nSpecify the target filename to include those options.\n");
        }
    }

    /// <summary>Lists the options that can be changed later.</summary>
    /// <exception cref="UsageException">Nobody knows the format, or it has none.</exception>
    public static void WriteAmendHelp(TextWriter writer, string format)
    {
        var known = KnownFormats.Registry.Formats.FirstOrDefault(known => known.Name == format)
            ?? throw new UsageException($"Unknown file format '{SafeText.Clean(format, 64)}'");
        if (known.AmendOptions.Options.Count == 0)
        {
            throw new UsageException($"Format driver '{format}' does not support option amendment");
        }

        writer.Write($"Amend options for '{format}':\n");
        WriteOptions(writer, known.AmendOptions.Options.OrderBy(option => option.Name, StringComparer.Ordinal));
    }

    private static void WriteOptions(TextWriter writer, IEnumerable<CreateOption> options)
    {
        foreach (var option in options)
        {
            var kind = option.Kind switch
            {
                CreateOptionKind.Switch => "bool (on/off)",
                CreateOptionKind.Size => "size",
                CreateOptionKind.Number => "num",
                _ => "str",
            };
            writer.Write($"  {$"{option.Name}=<{kind}>",-22} - {option.Help}\n");
        }
    }

    private static bool IsOfFiles(string name, string format) => name is "nocow" or "extent_size_hint" || (format == "raw" && name == "preallocation");

    /// <summary>What a raw image's options ask for.</summary>
    /// <returns>What space the file gets.</returns>
    /// <exception cref="UsageException">An option that raw images do not have.</exception>
    public static DiskPreallocation PreallocationOf(NodeOptions options)
    {
        foreach (var key in options.Keys)
        {
            // size is decided by the source, and the others are hints to file systems: accepted as the peers accept them.
            if (key is not ("preallocation" or "size" or "nocow" or "extent_size_hint"))
            {
                throw new UsageException($"Invalid parameter '{SafeText.Clean(key, 64)}'");
            }
        }

        return !options.Has("preallocation") ? DiskPreallocation.Off : options["preallocation"] switch
        {
            "off" => DiskPreallocation.Off,
            "falloc" => DiskPreallocation.Falloc,
            "full" => DiskPreallocation.Full,
            var other => throw new UsageException($"invalid parameter value: {SafeText.Clean(other ?? "on", 64)}"),
        };
    }
}
