using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Bitmaps;

/// <summary>The Format Extension of an image, as far as it can be trusted: its bitmaps and the clusters it occupies.</summary>
/// <remarks>
/// It counts only when in_use says that software which knows it closed the image ("v2.1"); whoever else had the image open has not kept
/// it up to date. Nothing that is wrong with it keeps the disk from being read: bitmaps are left out, with a warning. Writing is another matter.
/// </remarks>
internal sealed class ImageExtension
{
    // Nobody has more; without limits an image of many tiny sections could make us hold a multiple of its size.
    private const int MaxBitmaps = 1024;
    private const int MaxBitmapClusters = 1 << 20;
    private const int MaxProblems = 16;

    /// <summary>No extension, or one that does not count.</summary>
    private ImageExtension()
    {
    }

    /// <summary>The bitmaps that can be read.</summary>
    public IReadOnlyList<DirtyBitmapFeature> Bitmaps { get; private init; } = [];

    /// <summary>The flags of each of the <see cref="Bitmaps"/>.</summary>
    public IReadOnlyList<ulong> BitmapFlags { get; private init; } = [];

    /// <summary>Sections that are not understood and that whoever writes shall leave as they are (TRANSIT).</summary>
    public IReadOnlyList<(ulong Magic, ulong Flags, byte[] Data)> Kept { get; private init; } = [];

    /// <summary>Identifiers of sections that are not understood and that go with the next change (neither NECESSARY nor TRANSIT): the first ones, not all.</summary>
    public IReadOnlyList<ulong> Dropped { get; private init; } = [];

    /// <summary>Nothing of it can be read, so nobody knows whether it forbids writing.</summary>
    public bool IsDamaged { get; private init; }

    /// <summary>Host offsets of every cluster that it occupies, in bytes, ascending, each once.</summary>
    public long[] Clusters { get; private init; } = [];

    /// <summary>What is wrong with it, one line each.</summary>
    public IReadOnlyList<string> Problems { get; private init; } = [];

    /// <summary>Why it does not count, or null.</summary>
    public string? Stale { get; private init; }

    /// <summary>An unknown feature forbids changing the image.</summary>
    public bool ForbidsWriting { get; private init; }

    /// <summary>Loads what the header points to.</summary>
    /// <param name="storage">The image.</param>
    /// <param name="header">Its header.</param>
    /// <param name="geometry">Its numbers.</param>
    /// <param name="limits">A cluster larger than metadata may be is not loaded.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Io"/> only.</exception>
    public static async ValueTask<ImageExtension> LoadAsync(
        Storage storage, ParallelsHeader header, ParallelsGeometry geometry, OpenLimits limits, CancellationToken cancellationToken)
    {
        if (header.ExtensionOffsetSectors == 0)
        {
            return new();
        }

        if (header.InUse != ParallelsHeader.InUseClosed)
        {
            return new()
            {
                Stale = header.IsDirty
                    ? "the image was not closed correctly"
                    : $"the image was closed by software that does not keep it (in_use 0x{header.InUse:x})",
            };
        }

        try
        {
            var at = Place(storage, header, geometry, limits);
            var cluster = new byte[geometry.ClusterSizeBytes];
            var read = await storage.ReadAsync(at, cluster, cancellationToken).ConfigureAwait(false);
            ImageFormatException.ThrowIfShort(cluster.AsSpan(0, read), cluster.Length, storage.Name, "Format Extension", at);
            return Load(cluster, at, storage, geometry);
        }
        catch (ImageFormatException e)
        {
            return new() { Problems = [WithoutName(e, storage)], IsDamaged = true };
        }
    }

    private static HostOffset Place(Storage storage, in ParallelsHeader header, ParallelsGeometry geometry, OpenLimits limits)
    {
        var sectors = header.ExtensionOffsetSectors;
        var problem = sectors > long.MaxValue / Sizes.SectorBytes
            ? "is too large"
            : geometry.ProblemOf((long)sectors * Sizes.SectorBytes, storage.Length);
        if (problem is not null)
        {
            throw new ImageFormatException(storage.Name, "header", new HostOffset(56), "ext_off", $"0x{sectors:x}", problem);
        }

        return geometry.ClusterSizeBytes <= limits.MaxEagerMetadataBytes
            ? new((long)sectors * Sizes.SectorBytes)
            : throw new ImageFormatException(
                storage.Name,
                "Format Extension",
                new HostOffset((long)sectors * Sizes.SectorBytes),
                "size",
                $"{geometry.ClusterSizeBytes}",
                $"is over the limit of {limits.MaxEagerMetadataBytes} bytes",
                BlockErrorKind.LimitExceeded);
    }

    private static ImageExtension Load(byte[] cluster, HostOffset at, Storage storage, ParallelsGeometry geometry)
    {
        List<DirtyBitmapFeature> bitmaps = [];
        List<ulong> flags = [];
        List<(ulong Magic, ulong Flags, byte[] Data)> kept = [];
        List<ulong> dropped = [];
        List<string> problems = [];
        HashSet<long> clusters = [at.Value];
        HashSet<Guid> ids = [];
        var forbidsWriting = false;
        foreach (var feature in FormatExtension.Parse(cluster, storage.Name, at))
        {
            string? problem = null;
            if (feature.Magic != ExtensionFeature.DirtyBitmapMagic)
            {
                if (feature.IsTransit)
                {
                    kept.Add((feature.Magic, feature.Flags, cluster[feature.DataAt..(feature.DataAt + feature.DataSize)]));
                }
                else if (!feature.IsNecessary && dropped.Count < MaxProblems)
                {
                    dropped.Add(feature.Magic);
                }

                if (!feature.IsNecessary)
                {
                    // Nothing is wrong with it.
                    continue;
                }

                problem = $"feature 0x{feature.Magic:x} is unknown and necessary: the image must not be changed";
            }
            else
            {
                try
                {
                    bitmaps.Add(LoadBitmap(cluster, feature, at, storage, geometry, clusters, ids));
                    flags.Add(feature.Flags);
                    continue;
                }
                catch (ImageFormatException e)
                {
                    // A bad section is as if it were not there, says the specification; its neighbours stand.
                    problem = WithoutName(e, storage);
                }
            }

            forbidsWriting |= feature.IsNecessary;
            if (problems.Count < MaxProblems)
            {
                problems.Add(problem);
            }
        }

        return new()
        {
            Bitmaps = bitmaps,
            BitmapFlags = flags,
            Kept = kept,
            Dropped = dropped,
            Clusters = [.. clusters.Order()],
            Problems = problems,
            ForbidsWriting = forbidsWriting,
        };
    }

    private static DirtyBitmapFeature LoadBitmap(
        byte[] cluster,
        ExtensionFeature feature,
        HostOffset at,
        Storage storage,
        ParallelsGeometry geometry,
        HashSet<long> clusters,
        HashSet<Guid> ids)
    {
        var place = at + feature.DataAt;
        var bitmap = DirtyBitmapFeature.Parse(cluster.AsSpan(feature.DataAt, feature.DataSize), storage.Name, place);
        bitmap.Validate(geometry, storage.Length, storage.Name, place);
        if (ids.Count >= MaxBitmaps || clusters.Count + bitmap.L1.Length > MaxBitmapClusters)
        {
            throw new ImageFormatException(
                storage.Name, "dirty bitmap", place, "number", string.Empty, "there are more bitmaps than can be held", BlockErrorKind.LimitExceeded);
        }

        if (!ids.Add(bitmap.Id))
        {
            throw new ImageFormatException(storage.Name, "dirty bitmap", place, "id", bitmap.Name, "another bitmap has the same");
        }

        foreach (var entry in bitmap.L1)
        {
            if (entry is not (DirtyBitmapFeature.AllClear or DirtyBitmapFeature.AllSet) && !clusters.Add((long)entry * Sizes.SectorBytes))
            {
                throw new ImageFormatException(
                    storage.Name, "dirty bitmap", place, "L1 entry", $"0x{entry:x}", "the cluster is part of the Format Extension already");
            }
        }

        return bitmap;
    }

    private static string WithoutName(ImageFormatException e, Storage storage) =>
        e.Message.StartsWith(storage.Name + ": ", StringComparison.Ordinal) ? e.Message[(storage.Name.Length + 2)..] : e.Message;
}
