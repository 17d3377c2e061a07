using Platter.Operations.Copy;

namespace Platter;

/// <summary>How a disk is converted; what comes out is <see cref="DiskCreateOptions"/>' business.</summary>
public sealed record DiskConvertOptions
{
    /// <summary>How the bytes are copied.</summary>
    public CopyOptions Copy { get; init; } = new();

    /// <summary>Write into the image, file or device that is there instead of creating one (<c>-n</c>); it must be large enough.</summary>
    public bool UseExistingTarget { get; init; }

    /// <summary>Read the finished target back and compare it with the source; the conversion fails if a byte differs.</summary>
    public bool Verify { get; init; }

    /// <summary>Store the clusters compressed (<c>-c</c>): qcow2 only, without encryption or an external data file.</summary>
    public bool Compress { get; init; }

    /// <summary>How hard compression tries: 1 (fast) to 9 (zlib) or 22 (zstd); null for the library's own choice.</summary>
    public int? CompressionLevel { get; init; }
}
