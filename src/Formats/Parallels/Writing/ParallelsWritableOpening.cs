using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bitmaps;
using Platter.Formats.Parallels.Layout;
using Platter.Formats.Parallels.Mapping;
using Platter.Formats.Parallels.Metadata;

namespace Platter.Formats.Parallels.Writing;

/// <summary>Prepares an image for writing: judges whether it may be written to, and learns which clusters of the file are in use.</summary>
/// <remarks>
/// The BAT is read whole, in pieces. Nothing is written: an image that was not closed ("Ynot") and has nothing worse than leaks is as good as any other; the leaks
/// are gone when it is closed.
/// </remarks>
internal static class ParallelsWritableOpening
{
    private const string Refusal = "the image cannot be written to; 'check -r all' repairs it";

    // As the peers: space for guests that write all over their disk, given back when the image is closed.
    private const long DefaultPreallocation = 128 * Sizes.MiB;

    public static async ValueTask<ParallelsWriter> OpenAsync(
        Storage storage, ParallelsHeader header, ParallelsGeometry geometry, ImageExtension extension, NodeOptions options, OpenContext context,
        CancellationToken cancellationToken)
    {
        var (preallocation, reserves) = PreallocationOf(storage, options);
        Judge(storage, header, geometry, extension);
        var bat = new BatStore(storage, geometry.BatEntryCount);
        var clusters = new HostClusters();
        var length = storage.Length;
        var maxClusters = context.Limits.MaxEagerMetadataBytes * 8;
        var isEmpty = (header.Flags & ParallelsHeader.EmptyImage) != 0;
        long allocated = 0;
        await bat.ScanAsync(Take, cancellationToken).ConfigureAwait(false);
        if (isEmpty)
        {
            bat.TakeAsEmpty();
        }

        foreach (var cluster in extension.Clusters)
        {
            if (!clusters.TryTake(IndexOf(cluster)))
            {
                throw new ImageFormatException(
                    storage.Name, "Format Extension", new(cluster), string.Empty, string.Empty, $"a BAT entry points to one of its clusters; {Refusal}");
            }
        }

        clusters.ExistUpTo(Math.Max(0, Sizes.DivideRoundingUp(length - geometry.DataOffset, geometry.ClusterSizeBytes)));
        var writer = new ParallelsWriter(new()
        {
            Storage = storage,
            Header = header,
            Geometry = geometry,
            Bat = bat,
            Clusters = clusters,
            AllocatedClusters = isEmpty ? 0 : allocated,
            HasForgottenEntries = isEmpty && allocated > 0,
            Extension = extension,
            Preallocation = preallocation,
            Reserves = reserves,
            GivesBackSpace = !context.KeepsSpace && options["discard"] is not ("ignore" or "off"),
        });
        await writer.LoadBitmapsAsync(cancellationToken).ConfigureAwait(false);
        return writer;

        void Take(long first, ReadOnlyMemory<uint> entries)
        {
            var values = entries.Span;
            for (var i = 0; i < values.Length; i++)
            {
                var entry = new BatEntry(values[i]);
                if (entry.IsUnallocated)
                {
                    continue;
                }

                allocated++;
                if (isEmpty)
                {
                    continue;
                }

                var host = geometry.HostOffsetOf(entry);
                if (geometry.ProblemOf(host, length) is { } problem)
                {
                    throw ClusterMapper.Bad(storage, first + i, entry, host, $"{problem}; {Refusal}");
                }

                if (!clusters.TryTake(IndexOf(host)))
                {
                    throw ClusterMapper.Bad(storage, first + i, entry, host, $"belongs to another entry as well; {Refusal}");
                }
            }
        }

        long IndexOf(long host)
        {
            var index = (host - geometry.DataOffset) / geometry.ClusterSizeBytes;
            return index < maxClusters
                ? index
                : throw new ImageFormatException(
                    storage.Name, "BAT", new(BatEntry.PositionOf(0)), string.Empty, string.Empty,
                    $"remembering which clusters are used, up to 0x{host:x}, would take more than {maxClusters / 8} bytes", BlockErrorKind.LimitExceeded);
        }
    }

    private static void Judge(Storage storage, in ParallelsHeader header, ParallelsGeometry geometry, ImageExtension extension)
    {
        if ((header.Flags & ParallelsHeader.ConversionInProgress) != 0)
        {
            throw Bad(storage, 52, "flags", $"0x{header.Flags:x}", "a conversion between the two magics has not come to its end; the image cannot be written to");
        }

        if (!geometry.DataOffsetIsValid)
        {
            throw Bad(storage, 48, "data_off", $"{header.DataOffsetSectors}", $"cannot be true; {Refusal}");
        }

        if (geometry.VirtualSize > geometry.BatCoverage)
        {
            throw Bad(storage, 32, "nb_bat_entries", $"{header.BatEntryCount}", $"the disk needs more; {Refusal}");
        }

        if (extension.ForbidsWriting)
        {
            throw Bad(
                storage, 56, "ext_off", $"0x{header.ExtensionOffsetSectors:x}",
                "the Format Extension has a section that is necessary and not understood, or damaged: the image cannot be written to", BlockErrorKind.Unsupported);
        }

        if (extension.Problems.Count > 0)
        {
            // A bitmap that cannot be read would be gone with the first write.
            throw Bad(storage, 56, "ext_off", $"0x{header.ExtensionOffsetSectors:x}", $"the Format Extension is damaged ({extension.Problems[0]}); {Refusal}");
        }
    }

    private static (long Bytes, bool Reserves) PreallocationOf(Storage storage, NodeOptions options)
    {
        var size = DefaultPreallocation;
        if (options["prealloc-size"] is { } text && SizeNumber.Parse(text, out size) != SizeNumber.Outcome.Ok)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{storage.Name}: option 'prealloc-size' is '{SafeText.Clean(text, 64)}': expected a size");
        }

        return options["prealloc-mode"] switch
        {
            // A sparse file takes no more than what is written; the peers' default would.
            null or "truncate" => (size, false),
            "falloc" => (size, true),
            var mode => throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{storage.Name}: option 'prealloc-mode' is '{SafeText.Clean(mode, 64)}': expected falloc or truncate"),
        };
    }

    private static ImageFormatException Bad(
        Storage storage, int at, string field, string value, string problem, BlockErrorKind kind = BlockErrorKind.CorruptImage) =>
        new(storage.Name, "header", new(at), field, value, problem, kind);
}
