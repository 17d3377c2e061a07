using Platter.Operations.Copy;

namespace Platter;

/// <summary>How a raw file is made by a conversion.</summary>
public sealed record RawCreateOptions
{
    /// <summary>How the bytes are copied.</summary>
    public CopyOptions Copy { get; init; } = new();

    /// <summary>Whether the file gets all its space at once. Without effect on a device or a target that is there already.</summary>
    public RawPreallocation Preallocation { get; init; }

    /// <summary>Write into the file or device that is there instead of creating one (<c>-n</c>); it must be large enough.</summary>
    public bool UseExistingTarget { get; init; }
}
