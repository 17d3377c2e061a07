using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Create;

/// <summary>The creation options that decide how large an image is, parsed from <c>-o</c>.</summary>
internal sealed record Qcow2CreateOptions
{
    private const int MinClusterBits = 9, MaxClusterBits = 21;

    /// <summary>Every option of the format; the ones without effect on the layout are only checked for being known.</summary>
    private static readonly string[] s_known =
    [
        "size", "compat", "backing_file", "backing_fmt", "data_file", "data_file_raw", "encryption", "encrypt.format", "encrypt.key-secret",
        "encrypt.cipher-alg", "encrypt.cipher-mode", "encrypt.ivgen-alg", "encrypt.ivgen-hash-alg", "encrypt.hash-alg", "encrypt.iter-time",
        "cluster_size", "preallocation", "lazy_refcounts", "refcount_bits", "extended_l2", "compression_type",
    ];

    /// <summary>Cluster size in bytes.</summary>
    public long ClusterSize { get; private init; } = 64 * Sizes.KiB;

    /// <summary>Bits of a refcount.</summary>
    public int RefcountBits { get; private init; } = 16;

    /// <summary>Bytes of an L2 entry.</summary>
    public int L2EntryBytes { get; private init; } = 8;

    /// <summary>Whether every cluster gets a place from the start.</summary>
    public bool FullyAllocated { get; private init; }

    /// <summary>Whether a backing file is named.</summary>
    public bool HasBacking { get; private init; }

    /// <summary>Whether a LUKS header is part of the image.</summary>
    public bool Luks { get; private init; }

    /// <summary>Whether the image can hold bitmaps (version 3).</summary>
    public bool Version3 { get; private init; } = true;

    /// <summary>Parses and checks.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>, naming the option.</exception>
    public static Qcow2CreateOptions Parse(NodeOptions options)
    {
        foreach (var key in options.Keys)
        {
            if (!s_known.Contains(key))
            {
                throw Invalid($"Invalid parameter '{SafeText.Clean(key, 64)}'");
            }
        }

        var version3 = options["compat"] switch
        {
            null or "1.1" or "v3" => true,
            "0.10" or "v2" => false,
            var other => throw Invalid($"Invalid compatibility level: '{SafeText.Clean(other, 64)}'"),
        };
        var extended = options.GetSwitch("extended_l2", otherwise: false);
        var clusterSize = ClusterSizeOf(options);
        var refcountBits = RefcountBitsOf(options);
        if (extended && (!version3 || clusterSize < 16 * Sizes.KiB))
        {
            throw Invalid("Extended L2 entries are only supported with compatibility level 1.1 and above and a cluster size of at least 16k");
        }

        if (!version3 && refcountBits != 16)
        {
            throw Invalid("Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)");
        }

        return new Qcow2CreateOptions
        {
            ClusterSize = clusterSize,
            RefcountBits = refcountBits,
            L2EntryBytes = extended ? 16 : 8,
            FullyAllocated = options["preallocation"] switch
            {
                null or "off" or "metadata" => false,
                "full" or "falloc" => true,
                var other => throw Invalid($"Invalid parameter '{SafeText.Clean(other, 64)}' for option 'preallocation'"),
            },
            HasBacking = !string.IsNullOrEmpty(options["backing_file"]),
            Luks = options["encrypt.format"] == "luks",
            Version3 = version3,
        };
    }

    private static long ClusterSizeOf(NodeOptions options)
    {
        if (options["cluster_size"] is not { } text)
        {
            return 64 * Sizes.KiB;
        }

        var size = ByteCount.TryParse(text, out var bytes) ? bytes : -1;
        return Sizes.IsPowerOfTwo(size) && size >= 1L << MinClusterBits && size <= 1L << MaxClusterBits
            ? size
            : throw Invalid($"Cluster size must be a power of two between {1 << MinClusterBits} and {1 << (MaxClusterBits - 10)}k");
    }

    private static int RefcountBitsOf(NodeOptions options)
    {
        if (options["refcount_bits"] is not { } text)
        {
            return 16;
        }

        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var bits) && bits is 1 or 2 or 4 or 8 or 16 or 32 or 64
            ? bits
            : throw Invalid("Refcount width must be a power of two and may not exceed 64 bits");
    }

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
