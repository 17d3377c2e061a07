using Platter.Core.Images;
using Platter.Host.Files;
using Platter.Operations.Copy;

namespace Platter;

/// <summary>Copies what comes out of a stream into an NBD export, a device or a raw file; a new file has its name only when it is whole.</summary>
internal static class StreamConversion
{
    public static async Task<long> RunAsync(
        Stream source, string name, CopyOptions options, IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        return ExportConversion.ExportOf(name) is { } export
            ? await ToExportAsync(source, export, options, progress, cancellationToken).ConfigureAwait(false)
            : await ToFileAsync(source, name, options, progress, cancellationToken).ConfigureAwait(false);
    }

    private static async Task<long> ToExportAsync(
        Stream source, NodeOptions export, CopyOptions options, IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        var target = await ExportConversion.OpenAsync(export, cancellationToken).ConfigureAwait(false);
        await using var closing = target.ConfigureAwait(false);
        return await StreamCopy.CopyAsync(source, CopyTarget.Of(target), target.Name, target.Length, options, progress, cancellationToken).ConfigureAwait(false);
    }

    private static async Task<long> ToFileAsync(
        Stream source, string path, CopyOptions options, IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        var isNew = !File.Exists(path);
        var file = isNew ? UnfinishedFile.NameOf(path) : path;
        var target = FileStorage.OpenForReplacing(file);
        await using var closing = target.ConfigureAwait(false);
        var isWhole = false;
        try
        {
            if (!target.IsDevice)
            {
                target.Replace(0);
                options = options with { TargetIsZero = true };
            }

            var length = await StreamCopy.CopyAsync(
                source, CopyTarget.Of(target), path, target.IsDevice ? target.Length : long.MaxValue, options, progress, cancellationToken).ConfigureAwait(false);
            if (!target.IsDevice)
            {
                // Zeros at the end were not written.
                await target.SetLengthAsync(length, cancellationToken).ConfigureAwait(false);
                await target.FlushAsync(cancellationToken).ConfigureAwait(false);
            }

            if (isNew)
            {
                UnfinishedFile.Finish(path);
            }

            isWhole = true;
            return length;
        }
        finally
        {
            if (!isWhole && isNew)
            {
                File.Delete(file);
            }
            else if (!isWhole && !target.IsDevice)
            {
                target.Replace(0);
            }
        }
    }
}
