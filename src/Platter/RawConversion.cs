using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Host.Files;
using Platter.Operations.Copy;

namespace Platter;

/// <summary>Makes a raw file or fills a device from a disk. Nothing is emptied before it is certain that the source does not live there.</summary>
/// <remarks>
/// A raw file cannot say that it is half a copy, and half a copy looks like a whole one. So a new file has a name that says it until it is whole; it
/// stays under that name when the copy is interrupted. A file that was there before keeps its name, and is emptied then.
/// </remarks>
internal static class RawConversion
{
    public static async Task RunAsync(
        BlockNode source, string path, DiskPreallocation preallocation, DiskConvertOptions options, IProgress<CopyProgress>? progress,
        CancellationToken cancellationToken)
    {
        RefuseWhatRawCannot(path, preallocation, options);
        if (ExportConversion.ExportOf(path) is { } export)
        {
            await ExportConversion.RunAsync(source, path, export, options, progress, cancellationToken).ConfigureAwait(false);
            return;
        }

        var isNew = !File.Exists(path) && !options.UseExistingTarget;
        var file = isNew ? UnfinishedFile.NameOf(path) : path;
        if (options.Resume && !isNew)
        {
            throw UnfinishedFile.Finished(path);
        }

        await TargetGuard.RefusePartOfSourceAsync(source, file).ConfigureAwait(false);
        var resumes = options.Resume && File.Exists(file);
        var target = options.UseExistingTarget ? FileStorage.Open(path, writable: true) : FileStorage.OpenForReplacing(file);
        await using var closing = target.ConfigureAwait(false);
        var (state, replaced, stays) = (CopyState.Prepared, false, false);
        try
        {
            if (TargetGuard.IsPartOf(source, target.Identity))
            {
                throw TargetGuard.PartOfSource(path);
            }

            var copy = options.Copy;
            if (resumes)
            {
                await target.SetLengthAsync(source.VirtualSize, cancellationToken).ConfigureAwait(false);
            }
            else if (options.UseExistingTarget || target.IsDevice)
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

            state = CopyState.Copying;
            await CopyAsync(source, file, target, resumes, copy, progress, cancellationToken).ConfigureAwait(false);
            state = CopyState.Copied;
            if (options.Verify)
            {
                await ConversionCheck.RunAsync(source, file, new NodeOptions { ["driver"] = "raw" }, new DiskOpenOptions(), cancellationToken).ConfigureAwait(false);
            }

            if (isNew)
            {
                UnfinishedFile.Finish(path);
            }

            state = CopyState.Done;
        }
        catch (Exception e)
        {
            stays = isNew && state == CopyState.Copying && (resumes || IsWorthResuming(e));
            throw;
        }
        finally
        {
            if (stays)
            {
                options.OnUnfinished(file);
            }
            else if (isNew && state != CopyState.Done)
            {
                File.Delete(file);
            }
            else if (!isNew && replaced && state != CopyState.Done)
            {
                target.Replace(0);
            }
        }
    }

    /// <summary>Whether the same copy may succeed later: it was interrupted, or a device, a network or the room on a disk failed. A damaged source stays damaged.</summary>
    public static bool IsWorthResuming(Exception e) => e is OperationCanceledException or BlockException { Kind: BlockErrorKind.Io or BlockErrorKind.NoSpace };

    private static async ValueTask CopyAsync(
        BlockNode source, string file, FileStorage target, bool resumes, CopyOptions copy, IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        if (!resumes)
        {
            await CopyEngine.CopyAsync(source, CopyTarget.Of(target), copy, progress, cancellationToken).ConfigureAwait(false);
            return;
        }

        var content = await Disk.OpenAsync(file, new DiskOpenOptions { Format = "raw", ForceShare = true }, cancellationToken).ConfigureAwait(false);
        await using var closing = content.ConfigureAwait(false);
        var completing = CopyTarget.Completing(CopyTarget.Of(target), content.Node);
        await CopyEngine.CopyAsync(source, completing, copy with { TargetIsZero = false }, progress, cancellationToken).ConfigureAwait(false);
    }

    private static void RefuseWhatRawCannot(string path, DiskPreallocation preallocation, DiskConvertOptions options)
    {
        if (preallocation == DiskPreallocation.Metadata)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: Unsupported preallocation mode: metadata");
        }

        if (options.Bitmaps)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{path}: Format driver 'raw' does not support bitmaps");
        }

        if (options.Compress)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{path}: Compression not supported for this file format");
        }
    }

    private enum CopyState
    {
        Prepared,
        Copying,
        Copied,
        Done,
    }
}
