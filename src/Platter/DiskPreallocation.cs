namespace Platter;

/// <summary>How much of a new image gets a place from the start.</summary>
public enum DiskPreallocation
{
    /// <summary>Nothing: the file grows as it is written.</summary>
    Off,

    /// <summary>Every cluster has its place in the file, which stays sparse. Not for raw images.</summary>
    Metadata,

    /// <summary>The host sets the space aside without writing it; where it cannot, as <see cref="Full"/>.</summary>
    Falloc,

    /// <summary>Zeros are written everywhere.</summary>
    Full,
}
