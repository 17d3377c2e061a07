using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Create;

// The order on the disk: the old content goes (a file is cut to nothing, a device gets zeros where header and BAT will be), flush; then the first sector, which has the
// header, flush. A cut before that leaves a file that begins with zeros, so that nobody takes it for an image; a cut after it leaves a finished one.

/// <summary>Makes an empty image in either layout. The bytes of layout 2 are those that <c>qemu-img create</c> writes.</summary>
internal static class ParallelsCreator
{
    /// <summary>Judges all that needs no file.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>.</exception>
    public static void Check(long virtualSize, NodeOptions options) => _ = ParallelsCreateSettings.Parse(virtualSize, options);

    /// <summary>Makes it; the storage's content is lost once the checks are through.</summary>
    public static ValueTask RunAsync(Storage storage, long virtualSize, NodeOptions options, CancellationToken cancellationToken) =>
        WriteAsync(storage, ParallelsCreateSettings.Parse(virtualSize, options), cancellationToken);

    /// <summary>Makes an empty image in a storage, for whoever has no options: a bundle. It is durable when the call ends, but for its directory entry.</summary>
    /// <param name="storage">Writable; its content is lost. Stays the caller's.</param>
    /// <param name="virtualSize">Size of the disk in bytes, rounded up to whole sectors.</param>
    /// <param name="clusterSizeSectors">Cluster size in sectors; no power of two needed.</param>
    /// <param name="version">Layout 1 or 2.</param>
    /// <param name="cancellationToken">Stops between writes; the storage then holds no image.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/> with nothing touched; or the host could not write.</exception>
    public static ValueTask MakeAsync(Storage storage, long virtualSize, uint clusterSizeSectors, int version, CancellationToken cancellationToken = default) =>
        WriteAsync(storage, ParallelsCreateSettings.Plan(virtualSize, clusterSizeSectors, version), cancellationToken);

    private static async ValueTask WriteAsync(Storage storage, ParallelsCreateSettings settings, CancellationToken cancellationToken)
    {
        var length = settings.DataOffsetSectors * Sizes.SectorBytes;
        if (storage.HasFixedLength && storage.Length < length)
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"{storage.Name}: has {storage.Length} bytes, {length} are needed");
        }

        await EmptyAsync(storage, length, cancellationToken).ConfigureAwait(false);
        try
        {
            var sector = new byte[Sizes.SectorBytes];
            settings.ToHeader().WriteTo(sector);
            await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
            await storage.WriteAsync(HostOffset.Zero, sector, cancellationToken).ConfigureAwait(false);
            await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await GiveUpAsync(storage).ConfigureAwait(false);
            throw;
        }
    }

    private static async ValueTask EmptyAsync(Storage storage, long length, CancellationToken cancellationToken)
    {
        if (storage.HasFixedLength)
        {
            await storage.WriteZeroesAsync(HostOffset.Zero, length, mayUnmap: false, cancellationToken).ConfigureAwait(false);
            return;
        }

        if (storage.Length > 0)
        {
            await storage.SetLengthAsync(0, cancellationToken).ConfigureAwait(false);
            await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
        }

        await storage.SetLengthAsync(length, cancellationToken).ConfigureAwait(false);
    }

    // What was in the file is lost, and what is there now is nothing: give the space back.
    private static async ValueTask GiveUpAsync(Storage storage)
    {
        if (storage.HasFixedLength)
        {
            return;
        }

        try
        {
            await storage.SetLengthAsync(0, CancellationToken.None).ConfigureAwait(false);
        }
        catch (BlockException)
        {
            // The error that brought us here is the one to report.
        }
    }
}
