namespace Platter;

/// <summary>What happens to the space of a new raw file that the disk's data do not need.</summary>
public enum RawPreallocation
{
    /// <summary>It stays a hole.</summary>
    Off,

    /// <summary>The host sets it aside without writing (<c>preallocation=falloc</c>); where it cannot, as <see cref="Full"/>.</summary>
    Reserved,

    /// <summary>Zeros are written there.</summary>
    Full,
}
