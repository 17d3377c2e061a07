using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Host.Files;

namespace Platter;

/// <summary>Repairs with an undo file, and takes them back.</summary>
internal static class DiskRepair
{
    public static async ValueTask<RepairReport> RunAsync(
        BlockNode node, DiskRepairOptions options, Action<CheckFinding> report, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var undoFile = options.UndoFile;
        if (undoFile is null)
        {
            return await node.RepairAsync(new(options.Mode), report, progress, cancellationToken).ConfigureAwait(false);
        }

        // Better now than after hours of counting.
        if (Path.Exists(undoFile))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{undoFile}: is there already, and is not overwritten; nothing was changed");
        }

        var number = 0;
        return await node.RepairAsync(new(options.Mode) { BeforeSwitch = WriteAsync }, report, progress, cancellationToken).ConfigureAwait(false);

        async ValueTask WriteAsync(RepairUndo undo, CancellationToken token)
        {
            var file = number == 0 ? undoFile : string.Create(CultureInfo.InvariantCulture, $"{undoFile}.{number + 1}");
            await DurableFile.CreateNewAsync(file, stream => undo.WriteToAsync(stream, token)).ConfigureAwait(false);
            number++;
            options.OnUndoFile(file);
        }
    }

    public static async ValueTask<string> UndoAsync(string undoFile, string? image, CancellationToken cancellationToken)
    {
        var file = FileStorage.Open(undoFile);
        await using var closing = file.ConfigureAwait(false);
        var undo = await RepairUndo.ReadAsync(file, cancellationToken).ConfigureAwait(false);
        image ??= undo.ImageName;
        var storage = FileStorage.Open(image, writable: true);
        await using (storage.ConfigureAwait(false))
        {
            storage.LockForWriting();
            await undo.ApplyAsync(storage, cancellationToken).ConfigureAwait(false);
            if (undo.RemovesFile)
            {
                DurableFile.Remove(image);
            }
        }

        return image;
    }
}
