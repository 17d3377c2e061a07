using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Operations.Copy;

namespace Platter;

/// <summary>Copies a disk's bytes into an NBD export, which is there and has its size: nothing can be created, emptied or taken back.</summary>
internal static class ExportConversion
{
    private const int DefaultWorkers = 16;

    /// <summary>The options of an export, if that is what a target's name means.</summary>
    public static NodeOptions? ExportOf(string target) =>
        (DiskName.IsNbdUri(target) || target.StartsWith("nbd:", StringComparison.Ordinal) || target.StartsWith("json:", StringComparison.Ordinal))
        && DiskName.Parse(target) is { Driver: "nbd" } options ? options : null;

    /// <summary>Opens an export for writing.</summary>
    /// <exception cref="BlockException">As when opening an NBD storage.</exception>
    public static ValueTask<Storage> OpenAsync(NodeOptions export, CancellationToken cancellationToken) => new HostStorageOpener().OpenAsync(
        export, new StorageOpenMode(ForceShare: false, NamedByImage: false, Writable: true), cancellationToken);

    public static async Task RunAsync(
        BlockNode source, string name, NodeOptions export, DiskConvertOptions options, IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        if (options.Resume)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{name}: only a copy into a local file can be resumed");
        }

        var target = await OpenAsync(export, cancellationToken).ConfigureAwait(false);
        await using (target.ConfigureAwait(false))
        {
            TargetGuard.RefuseExportOfSource(source, target);
            if (target.Length < source.VirtualSize)
            {
                throw new BlockException(
                    BlockErrorKind.NoSpace, $"{target.Name}: Output file is smaller than input file: it has {target.Length} bytes, {source.VirtualSize} are needed");
            }

            // A server is far away: it wants requests in flight, wherever the source is.
            var copy = options.Copy with { Workers = options.Copy.Workers > 0 ? options.Copy.Workers : DefaultWorkers };
            await CopyEngine.CopyAsync(source, CopyTarget.Of(target), copy, progress, cancellationToken).ConfigureAwait(false);
        }

        if (options.Verify)
        {
            await ConversionCheck.RunAsync(source, name, new NodeOptions { ["driver"] = "raw" }, new DiskOpenOptions(), cancellationToken).ConfigureAwait(false);
        }
    }
}
