using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Host.Files;
using Platter.Operations.Offline;

namespace Platter;

/// <summary>Reads a finished conversion back, from the disk where the host can be made to, and compares it with its source.</summary>
internal static class ConversionCheck
{
    public static async ValueTask RunAsync(BlockNode source, string path, NodeOptions image, DiskOpenOptions open, CancellationToken cancellationToken)
    {
        image.SetChild("file", DiskName.Parse(path));

        // A raw target is still locked by this conversion.
        var target = await Disk.OpenAsync(image, open with { ForceShare = true }, cancellationToken).ConfigureAwait(false);
        await using var closing = target.ConfigureAwait(false);
        foreach (var storage in target.Node.Storages)
        {
            (storage as FileStorage)?.DropCache();
        }

        // A target that was there before may be longer.
        var part = target.Node.VirtualSize > source.VirtualSize ? new SliceNode(target.Node, default, source.VirtualSize) : target.Node;
        var result = await CompareOperation.CompareAsync(source, part, strict: false, cancellationToken: cancellationToken).ConfigureAwait(false);
        if (result.Outcome != CompareOutcome.Identical)
        {
            var shown = path.StartsWith("json:", StringComparison.Ordinal) ? target.Node.Name : path;
            throw new BlockException(
                BlockErrorKind.Io, $"{shown}: verification failed: the copy differs from the source at guest offset {result.At.Value}");
        }
    }
}
