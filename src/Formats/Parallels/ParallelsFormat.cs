using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Create;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels;

/// <summary>Parallels expandable images (<c>.hds</c>), both magics. Stateless and thread-safe.</summary>
public sealed class ParallelsFormat : ImageFormat
{
    /// <inheritdoc/>
    public override string Name => "parallels";

    /// <summary>The magic decides: a version we do not know is better refused than taken for a raw disk.</summary>
    public override int Probe(ReadOnlySpan<byte> head) => ParallelsHeader.HasMagic(head) ? 100 : 0;

    /// <inheritdoc/>
    public override CreateOptionList CreateOptions => ParallelsCreateSettings.Options;

    /// <inheritdoc/>
    public override void CheckCreate(long virtualSize, NodeOptions createOptions, CreateContext context) => ParallelsCreator.Check(virtualSize, createOptions);

    /// <inheritdoc/>
    public override ValueTask CreateAsync(
        Storage storage, long virtualSize, NodeOptions createOptions, CreateContext context, CancellationToken cancellationToken = default) =>
        ParallelsCreator.RunAsync(storage, virtualSize, createOptions, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<ImageDriver> OpenAsync(
        Storage storage, NodeOptions options, OpenContext context, CancellationToken cancellationToken = default)
    {
        // How a writer is to grow the file; nothing to a reader.
        options.RefuseUnknown(Name, "prealloc-size", "prealloc-mode", "backing.");
        return await ParallelsImage.OpenAsync(storage, options, context, cancellationToken).ConfigureAwait(false);
    }
}
