using System.Globalization;
using Platter.Core.Images;

namespace Platter;

/// <summary>How a Parallels bundle (<c>NAME.hdd</c>) is made; the directory must be empty or not there.</summary>
public sealed record ParallelsBundleCreateOptions : DiskCreateOptions
{
    /// <inheritdoc/>
    public override string Format => "parallels-bundle";

    /// <summary>Cluster size of its images, in bytes, rounded up to whole sectors.</summary>
    public long ClusterSize { get; init; } = 1 << 20;

    /// <summary>Split the disk into files for so many bytes of it each, a multiple of <see cref="ClusterSize"/>; 0 for one file.</summary>
    public long SplitSize { get; init; }

    internal override NodeOptions ToNamed() => new()
    {
        ["cluster_size"] = ClusterSize.ToString(CultureInfo.InvariantCulture),
        ["split_size"] = SplitSize.ToString(CultureInfo.InvariantCulture),
    };
}
