namespace Platter.Core.Images;

/// <summary>What an image may cost us to open. The defaults suit images that somebody made for use; <see cref="Untrusted"/> is for uploads.</summary>
public sealed record OpenLimits
{
    /// <summary>The defaults.</summary>
    public static OpenLimits Default { get; } = new();

    /// <summary>Tight limits for images nobody trusts.</summary>
    public static OpenLimits Untrusted { get; } = new() { MaxChainDepth = 1, MaxEagerMetadataBytes = 32L << 20, MaxKeyIterations = 10_000_000 };

    /// <summary>Images in one backing chain, the top included.</summary>
    public int MaxChainDepth { get; init; } = 64;

    /// <summary>Images that one snapshot of a bundle stands on. They lie in one directory and no gate is asked, so only their cost counts.</summary>
    public int MaxBundleLayers { get; init; } = 64;

    /// <summary>Bytes of one image's metadata that may be held whole (header, L1 or refcount table, snapshot table, BAT).</summary>
    public long MaxEagerMetadataBytes { get; init; } = 64L << 20;

    /// <summary>PBKDF2 iterations spent on one password.</summary>
    public long MaxKeyIterations { get; init; } = 100_000_000;

    /// <summary>Bytes of an XML descriptor.</summary>
    public int MaxDescriptorBytes { get; init; } = 4 << 20;
}
