using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Create;

/// <summary>What is to become of an image's options, judged against what they are.</summary>
/// <remarks>The rules of what can go down to version 2 are QEMU's.</remarks>
internal sealed record Qcow2AmendSettings
{
    /// <summary>The options that can be changed, in the order in which the peers tell them.</summary>
    public static CreateOptionList Options { get; } = new(
        new("encrypt.state", CreateOptionKind.Text, "Select new state of affected keyslots (active/inactive)"),
        new("encrypt.new-secret", CreateOptionKind.Text, "New secret to set in the matching keyslots. Empty string to erase"),
        new("encrypt.old-secret", CreateOptionKind.Text, "Select all keyslots that match this password"),
        new("encrypt.keyslot", CreateOptionKind.Number, "Select a single keyslot to modify explicitly"),
        new("encrypt.iter-time", CreateOptionKind.Number, "Time to spend in PBKDF in milliseconds"),
        new("size", CreateOptionKind.Size, "Virtual disk size"),
        new("compat", CreateOptionKind.Text, "Compatibility level (v2 [0.10] or v3 [1.1])"),
        new("backing_file", CreateOptionKind.Text, "File name of a base image"),
        new("backing_fmt", CreateOptionKind.Text, "Image format of the base image"),
        new("data_file", CreateOptionKind.Text, "File name of an external data file"),
        new("data_file_raw", CreateOptionKind.Switch, "The external data file must stay valid as a raw image"),
        new("lazy_refcounts", CreateOptionKind.Switch, "Postpone refcount updates"),
        new("refcount_bits", CreateOptionKind.Number, "Width of a reference count entry in bits"));

    /// <summary>The version that the image is to have.</summary>
    public required uint Version { get; init; }

    /// <summary>log2 of the refcount width that it is to have.</summary>
    public required int RefcountOrder { get; init; }

    /// <summary>Whether refcounts may lag behind.</summary>
    public required bool LazyRefcounts { get; init; }

    /// <summary>Whether the data file alone is a raw image.</summary>
    public required bool RawDataFile { get; init; }

    /// <summary>Name of the data file; null to leave it.</summary>
    public string? DataFile { get; init; }

    /// <summary>The options under <c>encrypt.</c>; null when there are none.</summary>
    public NodeOptions? Encryption { get; init; }

    /// <summary>Judges the options.</summary>
    /// <param name="options">Normalized.</param>
    /// <param name="header">As it is.</param>
    /// <param name="cluster">The first cluster as it is.</param>
    /// <exception cref="BlockException">Something is not allowed; nothing has been changed.</exception>
    public static Qcow2AmendSettings Parse(NodeOptions options, Qcow2Header header, HeaderCluster cluster)
    {
        var isRaw = (header.Autoclear & AutoclearFeatures.RawExternalData) != 0;
        var isLazy = (header.Compatible & CompatibleFeatures.LazyRefcounts) != 0;
        var result = new Qcow2AmendSettings
        {
            Version = options["compat"] switch
            {
                null => header.Version,
                "1.1" or "v3" => 3,
                "0.10" or "v2" => 2,
                var other => throw Invalid($"Unknown compatibility level {SafeText.Clean(other, 64)}"),
            },
            RefcountOrder = options["refcount_bits"] is { } bits ? OrderOf(bits) : (int)header.RefcountOrder,
            LazyRefcounts = options.GetSwitch("lazy_refcounts", isLazy),
            RawDataFile = options.GetSwitch("data_file_raw", isRaw),
            DataFile = options["data_file"],
            Encryption = options.HasChild("encrypt") ? options.Child("encrypt") : null,
        };
        var goesDown = result.Version < header.Version;
        if (result.LazyRefcounts && !isLazy && result.Version < 3)
        {
            throw Invalid("Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)");
        }

        if (result.RefcountOrder != 4 && result.Version < 3)
        {
            throw Invalid(goesDown
                ? "compat=0.10 requires refcount_bits=16"
                : "Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)");
        }

        if (result.RawDataFile && !isRaw)
        {
            throw Invalid("data-file-raw cannot be set on existing images");
        }

        var hasDataFile = (header.Incompatible & IncompatibleFeatures.ExternalDataFile) != 0;
        if (result.DataFile is not null && !hasDataFile)
        {
            throw Invalid("data-file can only be set for images that use an external data file");
        }

        if (Differs(options, "backing_file", cluster.BackingFile) || Differs(options, "backing_fmt", cluster.BackingFormat ?? default))
        {
            throw Invalid("Cannot amend the backing file. You can use 'rebase' instead.");
        }

        if (goesDown)
        {
            RefuseDown(header, cluster);
        }

        if (result.Encryption is not null && header.CryptMethod != CryptMethod.Luks)
        {
            throw Invalid(header.CryptMethod == CryptMethod.None
                ? "Can't amend encryption options - encryption not present"
                : "Only LUKS encryption options can be amended for qcow2 with amend");
        }

        return result;
    }

    private static void RefuseDown(Qcow2Header header, HeaderCluster cluster)
    {
        if ((header.Incompatible & IncompatibleFeatures.ExternalDataFile) != 0)
        {
            throw Invalid("Cannot downgrade an image with a data file");
        }

        const IncompatibleFeatures Harmless = IncompatibleFeatures.Dirty | IncompatibleFeatures.CompressionType;
        if ((header.Incompatible & ~Harmless) is not 0 and var others)
        {
            throw Invalid($"Cannot downgrade an image with incompatible features 0x{(ulong)others:x} set");
        }

        if (cluster.Bitmaps is not null && (header.Autoclear & AutoclearFeatures.Bitmaps) != 0)
        {
            throw Invalid("Cannot downgrade an image with persistent bitmaps");
        }
    }

    private static bool Differs(NodeOptions options, string key, ReadOnlyMemory<byte> stored) =>
        options[key] is { } text && !System.Text.Encoding.UTF8.GetBytes(text).AsSpan().SequenceEqual(stored.Span);

    private static int OrderOf(string bits) =>
        int.TryParse(bits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) && number is 1 or 2 or 4 or 8 or 16 or 32 or 64
            ? System.Numerics.BitOperations.Log2((uint)number)
            : throw Invalid("Refcount width must be a power of two and may not exceed 64 bits");

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
