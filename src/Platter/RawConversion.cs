using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Host.Files;
using Platter.Operations.Copy;

namespace Platter;

/// <summary>Makes a raw file or fills a device from a disk. Nothing is emptied before it is certain that the source does not live there.</summary>
internal static class RawConversion
{
    public static async Task RunAsync(
        BlockNode source, string path, DiskPreallocation preallocation, DiskConvertOptions options, IProgress<CopyProgress>? progress,
        CancellationToken cancellationToken)
    {
        if (preallocation == DiskPreallocation.Metadata)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: Unsupported preallocation mode: metadata");
        }

        if (options.Compress)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{path}: Compression not supported for this file format");
        }

        var existed = File.Exists(path);
        await TargetGuard.RefusePartOfSourceAsync(source, path).ConfigureAwait(false);
        var target = options.UseExistingTarget ? FileStorage.Open(path, writable: true) : FileStorage.OpenForReplacing(path);
        await using var closing = target.ConfigureAwait(false);
        var (finished, replaced) = (false, false);
        try
        {
            if (TargetGuard.IsPartOf(source, target.Identity))
            {
                existed = true;
                throw TargetGuard.PartOfSource(path);
            }

            var copy = options.Copy;
            if (options.UseExistingTarget || target.IsDevice)
            {
                if (target.Length < source.VirtualSize)
                {
                    throw new BlockException(
                        BlockErrorKind.NoSpace,
                        $"{path}: Output file is smaller than input file: it has {target.Length} bytes, {source.VirtualSize} are needed");
                }
            }
            else
            {
                replaced = true;
                target.Replace(source.VirtualSize);
                var writesAll = preallocation == DiskPreallocation.Full
                    || (preallocation == DiskPreallocation.Falloc && !target.TryReserve(default, source.VirtualSize));
                copy = copy with { TargetIsZero = true, SparseBytes = writesAll ? 0 : copy.SparseBytes };
            }

            await CopyEngine.CopyAsync(source, CopyTarget.Of(target), copy, progress, cancellationToken).ConfigureAwait(false);
            if (options.Verify)
            {
                await ConversionCheck.RunAsync(source, path, new NodeOptions { ["driver"] = "raw" }, new DiskOpenOptions(), cancellationToken).ConfigureAwait(false);
            }

            finished = true;
        }
        finally
        {
            // Half a copy looks like a whole one. A file that was there before keeps its name, and is empty now.
            if (!finished && !existed)
            {
                File.Delete(path);
            }
            else if (!finished && replaced)
            {
                target.Replace(0);
            }
        }
    }
}
