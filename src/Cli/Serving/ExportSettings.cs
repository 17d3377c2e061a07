using System.Globalization;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Nbd.Server;

namespace Platter.Cli.Serving;

/// <summary>One export as the command line asks for it.</summary>
internal sealed record ExportSettings
{
    /// <summary>The longest name or description the protocol lets a server send, in bytes.</summary>
    public const int MaxTextBytes = 4096;

    /// <summary>The image as typed.</summary>
    public required string Image { get; init; }

    /// <summary>Name of the export.</summary>
    public string Name { get; init; } = string.Empty;

    /// <summary>Description of the export.</summary>
    public string? Description { get; init; }

    /// <summary>The image's format; null for what the command line says for all, or to probe.</summary>
    public string? Format { get; init; }

    /// <summary>Which disk of a bundle; null for what the command line says for all.</summary>
    public string? Disk { get; init; }

    /// <summary>The snapshot; null for what the command line says for all.</summary>
    public string? Snapshot { get; init; }

    /// <summary>How many images down the backing chain: 0 for the image itself.</summary>
    public int Layer { get; init; }

    /// <summary>Clients may write.</summary>
    public bool Writable { get; init; }

    /// <summary>What clients write goes to a temporary overlay.</summary>
    public bool Overlay { get; init; }

    /// <summary>Bytes of the disk to leave out at its start.</summary>
    public long Offset { get; init; }

    /// <summary>Bytes to serve; null for all that follow.</summary>
    public long? Size { get; init; }

    /// <summary>Serve a partition alone; null for the whole disk.</summary>
    public int? Partition { get; init; }

    /// <summary>Tell how deep in the chain data lie.</summary>
    public bool Depth { get; init; }

    /// <summary>Dirty bitmaps to tell of.</summary>
    public IReadOnlyList<string> Bitmaps { get; init; } = [];

    /// <summary>Also export every snapshot, as NAME@SNAPSHOT.</summary>
    public bool WithSnapshots { get; init; }

    /// <summary>Also export every image of the backing chain, as NAME~1, NAME~2 …</summary>
    public bool WithLayers { get; init; }

    /// <summary>Whether TRIM gives space back.</summary>
    public bool Unmaps { get; init; } = true;

    /// <summary>What is done about zeros that are written.</summary>
    public NbdZeroDetection DetectZeroes { get; init; }

    /// <summary>The mode of caching: <c>writethrough</c> and <c>directsync</c> make every write durable, <c>unsafe</c> none; <c>none</c> and <c>directsync</c> leave nothing in the host's cache.</summary>
    public string Cache { get; init; } = "writeback";

    /// <summary>Whether the host's cache is not to be used.</summary>
    public bool BypassesHostCache => CommonOptions.BypassesHostCache(Cache);

    /// <summary>What messages call it.</summary>
    public string Shown => Name.Length == 0 ? "the export" : $"export '{SafeText.Clean(Name, 64)}'";

    /// <summary>Reads the value of <c>--export</c>: <c>image=FILE,name=NAME,…</c></summary>
    /// <param name="text">As typed; a doubled comma stands for one.</param>
    /// <param name="defaults">What the command line says for all exports.</param>
    /// <exception cref="UsageException">A key is unknown, lacks its value, or has a wrong one.</exception>
    public static ExportSettings Parse(string text, ExportSettings defaults)
    {
        var result = defaults with { Image = string.Empty };
        var bitmaps = new List<string>(defaults.Bitmaps);
        foreach (var (key, given) in NodeOptions.SplitKeyValues(text))
        {
            var value = given ?? throw new UsageException($"--export: '{SafeText.Clean(key, 64)}' has no value: expected {key}=VALUE");
            result = key switch
            {
                "image" or "file" => result with { Image = value },
                "name" => result with { Name = RequireShort(value, "name") },
                "description" => result with { Description = RequireShort(value, "description") },
                "format" => result with { Format = value },
                "disk" => result with { Disk = value },
                "snapshot" => result with { Snapshot = value },
                "layer" => result with { Layer = ParseNumber(key, value, 0) },
                "writable" => result with { Writable = ParseSwitch(key, value) },
                "overlay" => result with { Overlay = ParseSwitch(key, value) },
                "offset" => result with { Offset = SizeText.Parse(value, "offset") },
                "size" => result with { Size = SizeText.Parse(value, "size") },
                "partition" => result with { Partition = ParseNumber(key, value, 1) },
                "allocation-depth" => result with { Depth = ParseSwitch(key, value) },
                "snapshots" => result with { WithSnapshots = ParseSwitch(key, value) },
                "layers" => result with { WithLayers = ParseSwitch(key, value) },
                "discard" => result with { Unmaps = ParseDiscard(value) },
                "detect-zeroes" => result with { DetectZeroes = ParseZeroes(value) },
                "cache" => result with { Cache = ParseCache(value) },
                "bitmap" => Noted(result, bitmaps, value),
                _ => throw new UsageException($"--export has no option '{SafeText.Clean(key, 64)}'"),
            };
        }

        return result.Image.Length > 0
            ? (result with { Bitmaps = bitmaps }).Checked()
            : throw new UsageException($"--export {SafeText.Clean(text, 256)}: 'image=FILE' is missing");
    }

    /// <summary>Refuses what cannot go together.</summary>
    /// <exception cref="UsageException">It contradicts itself.</exception>
    public ExportSettings Checked()
    {
        if (Writable && !Overlay && (Snapshot is not null || Layer > 0))
        {
            throw new UsageException($"{Shown}: snapshots and images below the top can only be read; --overlay takes writes elsewhere");
        }

        if (Writable && !Overlay && (WithSnapshots || WithLayers))
        {
            throw new UsageException($"{Shown}: a disk that is written to cannot be exported together with its snapshots or layers");
        }

        if (Partition is not null && (Offset != 0 || Size is not null))
        {
            throw new UsageException($"{Shown}: a partition excludes an offset or a size");
        }

        return this;
    }

    /// <summary>Accepts a name or description of a length that the protocol can carry.</summary>
    /// <exception cref="UsageException">It is too long.</exception>
    public static string RequireShort(string text, string what) => System.Text.Encoding.UTF8.GetByteCount(text) <= MaxTextBytes
        ? text
        : throw new UsageException($"export {what} of {text.Length} characters is too long: {MaxTextBytes} bytes fit the protocol");

    /// <summary>Parses a mode of discarding.</summary>
    /// <exception cref="UsageException">There is no such mode.</exception>
    public static bool ParseDiscard(string text) => text switch
    {
        "unmap" or "on" => true,
        "ignore" or "off" => false,
        _ => throw new UsageException($"Invalid discard mode '{SafeText.Clean(text, 64)}'"),
    };

    /// <summary>Parses a mode of zero detection.</summary>
    /// <exception cref="UsageException">There is no such mode.</exception>
    public static NbdZeroDetection ParseZeroes(string text) => text switch
    {
        "off" => NbdZeroDetection.Off,
        "on" => NbdZeroDetection.On,
        "unmap" => NbdZeroDetection.Unmap,
        _ => throw new UsageException($"Invalid detect-zeroes mode '{SafeText.Clean(text, 64)}'"),
    };

    /// <summary>Parses a mode of caching.</summary>
    /// <exception cref="UsageException">There is no such mode.</exception>
    public static string ParseCache(string text) => CommonOptions.IsCacheMode(text)
        ? text
        : throw new UsageException($"Invalid cache mode '{SafeText.Clean(text, 64)}'");

    /// <summary>Parses a partition's number.</summary>
    /// <exception cref="UsageException">Not a number from 1 on.</exception>
    public static int ParsePartition(string text) => ParseNumber("partition", text, 1);

    private static int ParseNumber(string key, string text, int least) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least
            ? number
            : throw new UsageException($"Invalid {key} '{SafeText.Clean(text, 64)}': expected a number from {least} on");

    private static bool ParseSwitch(string key, string text) => text switch
    {
        "on" or "yes" or "true" => true,
        "off" or "no" or "false" => false,
        _ => throw new UsageException($"Invalid {key} '{SafeText.Clean(text, 64)}': expected on or off"),
    };

    private static ExportSettings Noted(ExportSettings settings, List<string> bitmaps, string name)
    {
        bitmaps.Add(name);
        return settings;
    }
}
