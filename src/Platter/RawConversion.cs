using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Host.Files;
using Platter.Operations.Copy;

namespace Platter;

/// <summary>Makes a raw file or fills a device from a disk. Nothing is emptied before it is certain that the source does not live there.</summary>
internal static class RawConversion
{
    public static async Task RunAsync(
        BlockNode source, string path, RawCreateOptions options, IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        var existed = File.Exists(path);
        var target = options.UseExistingTarget ? FileStorage.Open(path, writable: true) : FileStorage.OpenForReplacing(path);
        await using var closing = target.ConfigureAwait(false);
        var finished = false;
        try
        {
            if (target.Identity is { } identity && source.Storages.Any(storage => storage.Identity == identity))
            {
                existed = true;
                throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: is part of the source and cannot be its target");
            }

            var copy = options.Copy;
            if (options.UseExistingTarget || target.IsDevice)
            {
                var needed = source.VirtualSize + copy.TargetOffset.Value;
                if (target.Length < needed)
                {
                    throw new BlockException(
                        BlockErrorKind.NoSpace, $"{path}: Output file is smaller than input file: it has {target.Length} bytes, {needed} are needed");
                }
            }
            else
            {
                target.Replace(source.VirtualSize);
                var writesAll = options.Preallocation == RawPreallocation.Full
                    || (options.Preallocation == RawPreallocation.Reserved && !target.TryReserve(default, source.VirtualSize));
                copy = copy with { TargetIsZero = true, SparseBytes = writesAll ? 0 : copy.SparseBytes };
            }

            await CopyEngine.CopyAsync(source, target, copy, progress, cancellationToken).ConfigureAwait(false);
            finished = true;
        }
        finally
        {
            // Half a copy looks like a whole one. What was there before is not ours to remove.
            if (!finished && !existed)
            {
                File.Delete(path);
            }
        }
    }
}
