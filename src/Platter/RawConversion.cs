using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Host.Files;
using Platter.Operations.Copy;

namespace Platter;

/// <summary>Makes a raw file or fills a device from a disk. Nothing is emptied before it is certain that the source does not live there.</summary>
internal static class RawConversion
{
    public static async Task RunAsync(
        BlockNode source, string path, RawCreateOptions options, IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        if (options.Preallocation == DiskPreallocation.Metadata)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: Unsupported preallocation mode: metadata");
        }

        var existed = File.Exists(path);
        await RefusePartOfSourceAsync(source, path, existed).ConfigureAwait(false);
        var target = options.UseExistingTarget ? FileStorage.Open(path, writable: true) : FileStorage.OpenForReplacing(path);
        await using var closing = target.ConfigureAwait(false);
        var (finished, replaced) = (false, false);
        try
        {
            if (target.Identity is { } identity && source.Storages.Any(storage => storage.Identity == identity))
            {
                existed = true;
                throw PartOfSource(path);
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
                replaced = true;
                target.Replace(source.VirtualSize);
                var writesAll = options.Preallocation == DiskPreallocation.Full
                    || (options.Preallocation == DiskPreallocation.Falloc && !target.TryReserve(default, source.VirtualSize));
                copy = copy with { TargetIsZero = true, SparseBytes = writesAll ? 0 : copy.SparseBytes };
            }

            await CopyEngine.CopyAsync(source, target, copy, progress, cancellationToken).ConfigureAwait(false);
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

    // Looked at before the target is opened for writing, so that the message is about this and not about locks; and again when it is open.
    private static async ValueTask RefusePartOfSourceAsync(BlockNode source, string path, bool existed)
    {
        if (!existed)
        {
            return;
        }

        if (source.Directories.Any(directory => directory.Contains(path)))
        {
            throw PartOfSource(path);
        }

        StorageIdentity? identity;
        try
        {
            var found = FileStorage.Open(path);
            await using var closing = found.ConfigureAwait(false);
            identity = found.Identity;
        }
        catch (BlockException)
        {
            // Opening it for writing tells what is wrong with it.
            return;
        }

        if (identity is not null && source.Storages.Any(storage => storage.Identity == identity))
        {
            throw PartOfSource(path);
        }
    }

    private static BlockException PartOfSource(string path) =>
        new(BlockErrorKind.InvalidRequest, $"{path}: is part of the source and cannot be its target");
}
