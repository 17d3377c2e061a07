using System.Runtime.CompilerServices;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Operations.Offline;

/// <summary>A run of the disk as <c>map</c> prints it.</summary>
/// <param name="Start">Guest offset, in bytes.</param>
/// <param name="Length">Guest bytes.</param>
/// <param name="Depth">Images down the backing chain.</param>
/// <param name="Present">Some image of the chain has it.</param>
/// <param name="Zero">It certainly reads as zeros.</param>
/// <param name="Data">Bytes are stored for it.</param>
/// <param name="Compressed">Stored compressed.</param>
/// <param name="Encrypted">Stored encrypted.</param>
/// <param name="HostOffset">Where the bytes are in <paramref name="File"/>, or null when they cannot be read there as they are.</param>
/// <param name="File">Name of the storage that goes with <paramref name="HostOffset"/>.</param>
public sealed record MapEntry(
    GuestOffset Start, long Length, int Depth, bool Present, bool Zero, bool Data, bool Compressed, bool Encrypted, HostOffset? HostOffset, string? File)
{
    /// <summary>Whether <paramref name="next"/> says the same of the bytes that follow.</summary>
    internal bool GoesOnWith(MapEntry next) =>
        next.Start == Start + Length
        && (Depth, Present, Zero, Data, Compressed, Encrypted, File) == (next.Depth, next.Present, next.Zero, next.Data, next.Compressed, next.Encrypted, next.File)
        && (HostOffset is null ? next.HostOffset is null : next.HostOffset is { } other && other == HostOffset.Value + Length);
}

/// <summary>Lists what a disk's ranges are.</summary>
public static class MapOperation
{
    /// <summary>The runs from <paramref name="start"/>, neighbours that say the same merged.</summary>
    /// <param name="node">The disk.</param>
    /// <param name="start">Guest offset to start at, in bytes.</param>
    /// <param name="length">Guest bytes to look at; cut at the end of the disk.</param>
    /// <param name="cancellationToken">Stops.</param>
    public static async IAsyncEnumerable<MapEntry> EnumerateAsync(
        BlockNode node, GuestOffset start, long length, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var end = node.VirtualSize - start.Value <= length ? node.VirtualSize : start.Value + length;
        MapEntry? current = null;
        for (var at = start; at.Value < end;)
        {
            var extent = await node.MapAsync(at, end - at.Value, MapDetail.StorageHoles, cancellationToken).ConfigureAwait(false);
            var entry = Describe(extent);
            if (current is null)
            {
                current = entry;
            }
            else if (current.GoesOnWith(entry))
            {
                current = current with { Length = current.Length + entry.Length };
            }
            else
            {
                yield return current;
                current = entry;
            }

            at = extent.End;
        }

        if (current is not null)
        {
            yield return current;
        }
    }

    private static MapEntry Describe(in Extent extent)
    {
        var plain = extent.Storage is not null && extent.Kind != ExtentKind.Encoded;
        return new MapEntry(
            extent.Offset,
            extent.Length,
            extent.Depth,
            Present: extent.Kind != ExtentKind.Unallocated,
            Zero: extent.ReadsZero,
            Data: extent.Kind is ExtentKind.Data or ExtentKind.Encoded,
            Compressed: (extent.Flags & ExtentFlags.Compressed) != 0,
            Encrypted: (extent.Flags & ExtentFlags.Encrypted) != 0,
            plain ? extent.HostOffset : null,
            plain ? extent.Storage!.Name : null);
    }
}
