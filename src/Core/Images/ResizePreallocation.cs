namespace Platter.Core.Images;

/// <summary>What place in the file new bytes of a growing disk get.</summary>
public enum ResizePreallocation
{
    /// <summary>None before they are written.</summary>
    Off,

    /// <summary>Every cluster has its place in the file, which stays sparse. Not for raw images.</summary>
    Metadata,

    /// <summary>The host sets the space aside without writing it; where it cannot, as <see cref="Full"/>.</summary>
    Falloc,

    /// <summary>Zeros are written everywhere.</summary>
    Full,
}
