namespace Platter.TestKit;

/// <summary>Where compressed streams start.</summary>
public enum CompressedPacking
{
    /// <summary>At the byte where the one before ended; several share a sector and a host cluster.</summary>
    Bytes,

    /// <summary>At the next sector.</summary>
    Sectors,

    /// <summary>In a host cluster of their own, the only way with refcounts of one bit.</summary>
    Clusters,
}
