using Platter.Core.Storages;
using Platter.Formats.Parallels.Bitmaps;
using Platter.Formats.Parallels.Layout;
using Platter.Formats.Parallels.Metadata;

namespace Platter.Formats.Parallels.Writing;

/// <summary>What <see cref="ParallelsWritableOpening"/> found out about an image.</summary>
internal sealed record ParallelsWriterState
{
    public required Storage Storage { get; init; }

    public required ParallelsHeader Header { get; init; }

    public required ParallelsGeometry Geometry { get; init; }

    public required BatStore Bat { get; init; }

    public required HostClusters Clusters { get; init; }

    /// <summary>BAT entries that are not 0.</summary>
    public required long AllocatedClusters { get; init; }

    /// <summary>The header says that the image is empty, and its BAT is not.</summary>
    public required bool HasForgottenEntries { get; init; }

    /// <summary>Bitmaps and sections that are kept, as they are on the disk.</summary>
    public required ImageExtension Extension { get; init; }

    /// <summary>How far the file grows ahead of need, in bytes.</summary>
    public required long Preallocation { get; init; }

    /// <summary>Whether the host sets space aside for what the file grows by.</summary>
    public required bool Reserves { get; init; }

    /// <summary>Whether the host gets back the space of clusters that are given up.</summary>
    public required bool GivesBackSpace { get; init; }
}
