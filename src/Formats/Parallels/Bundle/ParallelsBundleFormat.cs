using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Parallels.Bundle.Editing;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Parallels disks as they are on a Mac or a Virtuozzo host: a directory with a descriptor and one file per storage and snapshot.
/// Stateless and thread-safe.</summary>
/// <remarks>Takes a <c>.hdd</c> directory, its <c>DiskDescriptor.xml</c>, or a <c>.pvm</c> directory with such disks in it.
/// Spec: qemu <c>docs/interop/prl-xml</c>.</remarks>
public sealed class ParallelsBundleFormat : BundleFormat
{
    /// <summary>The name of the format.</summary>
    internal const string FormatName = "parallels-bundle";

    /// <inheritdoc/>
    public override string Name => FormatName;

    /// <inheritdoc/>
    public override bool Recognises(StorageDirectory directory) =>
        directory.FileExists(BundleFiles.DescriptorName)
        || directory.FileExists(BundleFiles.UnfinishedName)
        || directory.FileExists(BundleFiles.BackupName)
        || BundleLocation.DisksIn(directory).Count > 0;

    /// <inheritdoc/>
    public override IReadOnlyList<string> DisksIn(StorageDirectory directory) =>
        directory.FileExists(BundleFiles.DescriptorName) || directory.FileExists(BundleFiles.UnfinishedName) ? [] : BundleLocation.DisksIn(directory);

    /// <summary>Judges by name, and that the file could be XML: its bytes are judged when it is opened, with better words than "raw".</summary>
    public override bool IsDescriptor(string fileName, ReadOnlySpan<byte> head)
    {
        if (fileName != BundleFiles.DescriptorName)
        {
            return false;
        }

        // Behind a byte order mark and white space, in UTF-8 or UTF-16 of either order.
        foreach (var b in head)
        {
            if (b is not (0 or 0xEF or 0xBB or 0xBF or 0xFE or 0xFF or (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n'))
            {
                return b == '<';
            }
        }

        return false;
    }

    /// <inheritdoc/>
    public override CreateOptionList CreateOptions => BundleCreator.Options;

    /// <inheritdoc/>
    public override void CheckCreate(long virtualSize, NodeOptions createOptions) => BundleCreator.Check(virtualSize, createOptions);

    /// <inheritdoc/>
    public override ValueTask CreateAsync(
        StorageDirectory directory, long virtualSize, NodeOptions createOptions, CreateContext context, CancellationToken cancellationToken = default) =>
        BundleCreator.RunAsync(directory, virtualSize, createOptions, context.Unfinished, cancellationToken);

    /// <inheritdoc/>
    public override bool CanResume(StorageDirectory directory) => UnfinishedBundle.CanGoOn(directory);

    /// <inheritdoc/>
    public override async ValueTask<BlockNode> OpenAsync(
        StorageDirectory directory, NodeOptions options, bool writable, OpenContext context, CancellationToken cancellationToken = default)
    {
        options.RefuseUnknown(Name, "disk", "snapshot");
        return await BundleOpener.OpenAsync(directory, options["disk"], options["snapshot"], writable, context, cancellationToken).ConfigureAwait(false);
    }
}
