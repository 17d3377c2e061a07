using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Raw;

/// <summary>Makes a raw image: a file of the disk's size that reads as zeros. There is nothing in it that could be unfinished but its length.</summary>
internal static class RawCreator
{
    private const int RunBytes = 2 * 1024 * 1024;

    /// <summary>Judges options and size.</summary>
    public static void Check(long virtualSize, NodeOptions options)
    {
        if (options["preallocation"] is { } mode and not ("off" or "falloc" or "full"))
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest,
                mode == "metadata" ? "Unsupported preallocation mode: metadata" : $"invalid parameter value: {SafeText.Clean(mode, 64)}");
        }

        if (!Sizes.TryAlignUp(virtualSize, Sizes.SectorBytes, out _))
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, "The image size is too large for file format 'raw'");
        }
    }

    /// <summary>Empties the file and gives it its size. What a device holds is left: it is as good as anything else.</summary>
    public static async ValueTask RunAsync(Storage storage, long virtualSize, NodeOptions options, CancellationToken cancellationToken)
    {
        Check(virtualSize, options);
        _ = Sizes.TryAlignUp(virtualSize, Sizes.SectorBytes, out var size);
        if (storage.HasFixedLength)
        {
            if (storage.Length < size)
            {
                throw new BlockException(BlockErrorKind.NoSpace, $"{storage.Name}: has {storage.Length} bytes, {size} are needed");
            }

            return;
        }

        await storage.SetLengthAsync(0, cancellationToken).ConfigureAwait(false);
        await storage.SetLengthAsync(size, cancellationToken).ConfigureAwait(false);
        if (options["preallocation"] is null or "off" || (options["preallocation"] == "falloc" && storage.TryReserve(HostOffset.Zero, size)))
        {
            return;
        }

        var zeros = new byte[(int)Math.Min(RunBytes, size)];
        for (long done = 0; done < size; done += zeros.Length)
        {
            await storage.WriteAsync(
                new HostOffset(done), zeros.AsMemory(0, (int)Math.Min(zeros.Length, size - done)), cancellationToken).ConfigureAwait(false);
        }

        await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
    }
}
