using Platter.Operations.Copy;

namespace Platter;

/// <summary>How a disk is converted; what comes out is <see cref="DiskCreateOptions"/>' business.</summary>
public sealed record DiskConvertOptions
{
    /// <summary>How the bytes are copied.</summary>
    public CopyOptions Copy { get; init; } = new();

    /// <summary>Write into the image, file or device that is there instead of creating one (<c>-n</c>); it must be large enough.</summary>
    public bool UseExistingTarget { get; init; }

    /// <summary>Go on with a copy that was interrupted: an image that says it is unfinished, or <c>TARGET.unfinished</c> of a raw one. What it has already is
    /// compared, and written only where it differs. Where there is none, a new copy begins.</summary>
    public bool Resume { get; init; }

    /// <summary>Told the name of a target that is unfinished and stays, because the same copy may succeed later (it was stopped, or met an I/O error or a full disk), before the error that stopped the copy is thrown.</summary>
    public Action<string> OnUnfinished { get; init; } = static _ => { };

    /// <summary>Read the finished target back and compare it with the source; the conversion fails if a byte differs.</summary>
    public bool Verify { get; init; }

    /// <summary>Copy the source's persistent bitmaps too (<c>--bitmaps</c>); its top image must hold them.</summary>
    public bool Bitmaps { get; init; }

    /// <summary>With <see cref="Bitmaps"/>: leave out those that are inconsistent instead of failing.</summary>
    public bool SkipBrokenBitmaps { get; init; }

    /// <summary>Receives one-line warnings; they may hold image-supplied text.</summary>
    public Action<string> Warn { get; init; } = static _ => { };

    /// <summary>Store the clusters compressed (<c>-c</c>): qcow2 only, without encryption or an external data file.</summary>
    public bool Compress { get; init; }

    /// <summary>How hard compression tries: 1 (fast) to 9 (zlib) or 22 (zstd); null for the library's own choice.</summary>
    public int? CompressionLevel { get; init; }
}
