namespace Platter.TestKit;

/// <summary>Where the parts of a qcow2 file lie; the format leaves this free.</summary>
public enum Qcow2HostLayout
{
    /// <summary>As QEMU does it: refcounts, L1, then L2 tables and data in guest order.</summary>
    MetadataFirst,

    /// <summary>Guest data directly behind the header, all metadata at the end, as streaming writers do it.</summary>
    DataFirst,

    /// <summary>Everything at random, by the builder's seed.</summary>
    Shuffled,
}
