using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Operations.Copy;

namespace Platter;

/// <summary>Makes an image of a format with structures of its own from a disk, or fills one that is there.</summary>
internal static class ImageConversion
{
    public static async Task RunAsync(
        BlockNode source, string path, DiskCreateOptions create, DiskConvertOptions options, IProgress<CopyProgress>? progress,
        CancellationToken cancellationToken)
    {
        var named = create.ToNamed();
        var dataFile = named["data_file"];
        await TargetGuard.RefusePartOfSourceAsync(source, path).ConfigureAwait(false);
        if (dataFile is not null)
        {
            await TargetGuard.RefusePartOfSourceAsync(source, dataFile).ConfigureAwait(false);
        }

        var hasBacking = !string.IsNullOrEmpty(named["backing_file"]);
        var copy = options.Copy;
        if (options.UseExistingTarget)
        {
            await FillAsync(source, path, create, named, options, copy, progress, cancellationToken).ConfigureAwait(false);
            return;
        }

        var created = new[] { path, dataFile }.Where(file => file is not null && !File.Exists(file)).ToList();
        var finished = false;
        try
        {
            var creation = await DiskCreation.PrepareAsync(path, source.VirtualSize, create, cancellationToken).ConfigureAwait(false);
            await creation.RunAsync(cancellationToken).ConfigureAwait(false);
            copy = copy with { TargetIsZero = !hasBacking, SharesBacking = hasBacking };
            await FillAsync(source, path, create, named, options, copy, progress, cancellationToken).ConfigureAwait(false);
            finished = true;
        }
        finally
        {
            if (!finished)
            {
                // Half a copy looks like a whole one.
                foreach (var file in created)
                {
                    File.Delete(file!);
                }
            }
        }
    }

    private static async Task FillAsync(
        BlockNode source, string path, DiskCreateOptions create, NodeOptions named, DiskConvertOptions options, CopyOptions copy,
        IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        var image = new NodeOptions { ["driver"] = create.Format };
        if (named["encrypt.key-secret"] is { } secret)
        {
            image["encrypt.key-secret"] = secret;
        }

        var open = new DiskOpenOptions
        {
            Writable = true,
            Format = create.Format,
            Secrets = create.Secrets,
            Password = create.Password,
            CompressionLevel = options.CompressionLevel,
        };
        await CopyAsync(source, path, image, options, open, copy, progress, cancellationToken).ConfigureAwait(false);
        if (options.Verify)
        {
            await ConversionCheck.RunAsync(source, path, image, open with { Writable = false }, cancellationToken).ConfigureAwait(false);
        }
    }

    private static async ValueTask CopyAsync(
        BlockNode source, string path, NodeOptions image, DiskConvertOptions options, DiskOpenOptions open, CopyOptions copy,
        IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        image.SetChild("file", DiskName.Parse(path));
        var target = await Disk.OpenAsync(image, open, cancellationToken).ConfigureAwait(false);
        await using var closing = target.ConfigureAwait(false);
        if (target.Size < source.VirtualSize)
        {
            throw new BlockException(
                BlockErrorKind.NoSpace, $"{path}: Output file is smaller than input file: it has {target.Size} bytes, {source.VirtualSize} are needed");
        }

        var unit = target.Node.AllocationUnit;
        var to = options.Compress ? CopyTarget.Compressed(target.Node, unit) : CopyTarget.Of(target.Node, unit);
        await CopyEngine.CopyAsync(source, to, copy, progress, cancellationToken).ConfigureAwait(false);
    }
}
