using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Raw;

/// <summary>Raw images: the storage's bytes are the disk's bytes. Stateless and thread-safe.</summary>
public sealed class RawFormat : ImageFormat
{
    /// <inheritdoc/>
    public override string Name => "raw";

    /// <inheritdoc/>
    public override bool AllowsWriters => true;

    /// <summary>Anything may be raw, so every other format goes first.</summary>
    public override int Probe(ReadOnlySpan<byte> head) => 1;

    /// <inheritdoc/>
    public override CreateOptionList CreateOptions { get; } = new(
        new("size", CreateOptionKind.Size, "Virtual disk size"),
        new("nocow", CreateOptionKind.Switch, "Turn off copy-on-write (valid only on btrfs)"),
        new("preallocation", CreateOptionKind.Text, "Preallocation mode (allowed values: off, falloc, full)"),
        new("extent_size_hint", CreateOptionKind.Size, "Extent size hint for the image file, 0 to disable"));

    /// <inheritdoc/>
    public override void CheckCreate(long virtualSize, NodeOptions createOptions, CreateContext context) =>
        RawCreator.Check(virtualSize, CreateOptions.Normalize(createOptions));

    /// <inheritdoc/>
    public override ValueTask CreateAsync(
        Storage storage, long virtualSize, NodeOptions createOptions, CreateContext context, CancellationToken cancellationToken = default) =>
        RawCreator.RunAsync(storage, virtualSize, CreateOptions.Normalize(createOptions), cancellationToken);

    /// <summary>A raw image is as large as its disk.</summary>
    public override ValueTask<MeasureResult> MeasureAsync(
        BlockNode? source, long virtualSize, NodeOptions createOptions, CancellationToken cancellationToken = default)
    {
        foreach (var key in createOptions.Keys)
        {
            if (key is not ("size" or "preallocation"))
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"Invalid parameter '{SafeText.Clean(key, 64)}'");
            }
        }

        return new(new MeasureResult(virtualSize, virtualSize));
    }

    /// <summary>Opens a storage, or the part of it that <c>offset</c> and <c>size</c> (bytes, or with a suffix k, M, G, T, P, E) cut out.</summary>
    /// <param name="storage">The bytes.</param>
    /// <param name="options"><c>offset</c>, <c>size</c>.</param>
    /// <param name="context">Not needed.</param>
    /// <param name="cancellationToken">Not needed: nothing is read.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: an unknown option, or the part does not lie inside the storage.</exception>
    public override ValueTask<ImageDriver> OpenAsync(
        Storage storage, NodeOptions options, OpenContext context, CancellationToken cancellationToken = default)
    {
        options.RefuseUnknown(Name, "offset", "size");

        // A disk is a whole number of sectors. What a file lacks in its last one reads as zeros.
        var length = storage.Length;
        if (!Sizes.TryAlignUp(length, Sizes.SectorBytes, out var whole))
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{storage.Name}: {length} bytes are more than a disk can have");
        }

        var offset = SizeOption(storage, options, "offset") ?? 0;
        if (offset > whole)
        {
            throw Invalid(storage, $"option 'offset' ({offset}) is greater than the size of the file ({whole})");
        }

        var size = SizeOption(storage, options, "size");
        if (size is null)
        {
            // As much as there is; with an odd offset the last sector may be cut again.
            size = Sizes.TryAlignUp(whole - offset, Sizes.SectorBytes, out var rest) ? rest : 0;
        }
        else if (size % Sizes.SectorBytes != 0)
        {
            throw Invalid(storage, $"option 'size' ({size}) is not a multiple of {Sizes.SectorBytes}");
        }
        else if (size > whole - offset)
        {
            throw Invalid(storage, $"options 'offset' ({offset}) and 'size' ({size}) reach beyond the end of the file ({whole})");
        }

        return new(new RawImage(storage, new HostOffset(offset), size.Value));
    }

    private static long? SizeOption(Storage storage, NodeOptions options, string key)
    {
        if (options[key] is not { } text)
        {
            return null;
        }

        return SizeNumber.Parse(text, out var bytes) == SizeNumber.Outcome.Ok
            ? bytes
            : throw Invalid(storage, $"option '{key}' is '{SafeText.Clean(text, 64)}': expected a number of bytes, or one with a suffix k, M, G, T, P or E");
    }

    private static BlockException Invalid(Storage storage, string problem) =>
        new(BlockErrorKind.InvalidRequest, $"{storage.Name}: {problem}");
}
