using System.Globalization;
using Platter.Core.Images;

namespace Platter;

/// <summary>How compressed clusters of a new qcow2 image are compressed.</summary>
public enum Qcow2Compression
{
    /// <summary>Deflate, which every program reads.</summary>
    Zlib,

    /// <summary>Zstandard.</summary>
    Zstd,
}

/// <summary>How a new qcow2 image is made. The defaults are those of <c>qemu-img</c>: version 3, clusters of 64 KiB, 16-bit refcounts.</summary>
public sealed record Qcow2CreateOptions : DiskCreateOptions
{
    /// <inheritdoc/>
    public override string Format => "qcow2";

    /// <summary>The old version 2 (<c>compat=0.10</c>), for programs from before 2012.</summary>
    public bool Version2 { get; init; }

    /// <summary>Bytes in a cluster: a power of two from 512 to 2 MiB.</summary>
    public int ClusterSize { get; init; } = 64 * 1024;

    /// <summary>Width of a refcount: 1, 2, 4, … 64 bits.</summary>
    public int RefcountBits { get; init; } = 16;

    /// <summary>Let refcounts lag behind; a crash is then followed by a repair on opening.</summary>
    public bool LazyRefcounts { get; init; }

    /// <summary>Subclusters: L2 entries of 16 bytes with a bitmap each.</summary>
    public bool ExtendedL2 { get; init; }

    /// <summary>How clusters that are compressed are compressed.</summary>
    public Qcow2Compression Compression { get; init; }

    /// <summary>How much gets a place from the start.</summary>
    public DiskPreallocation Preallocation { get; init; }

    /// <summary>The backing file, as it is to be recorded: a relative name starts at the new image's directory.</summary>
    public string? BackingFile { get; init; }

    /// <summary>The backing file's format; must be given with a backing file.</summary>
    public string? BackingFormat { get; init; }

    /// <summary>Keep guest data in this file, which is emptied.</summary>
    public string? DataFile { get; init; }

    /// <summary>Keep the data file such that it alone is a raw image of the disk.</summary>
    public bool DataFileRaw { get; init; }

    /// <summary>Encrypt with LUKS; null for not.</summary>
    public Qcow2Encryption? Encryption { get; init; }

    internal override NodeOptions ToNamed()
    {
        var result = new NodeOptions
        {
            ["compat"] = Version2 ? "0.10" : "1.1",
            ["cluster_size"] = ClusterSize.ToString(CultureInfo.InvariantCulture),
            ["refcount_bits"] = RefcountBits.ToString(CultureInfo.InvariantCulture),
            ["lazy_refcounts"] = LazyRefcounts ? "on" : "off",
            ["extended_l2"] = ExtendedL2 ? "on" : "off",
            ["compression_type"] = Compression == Qcow2Compression.Zstd ? "zstd" : "zlib",
            ["preallocation"] = RawCreateOptions.NameOf(Preallocation),
        };
        Set("backing_file", BackingFile);
        Set("backing_fmt", BackingFormat);
        Set("data_file", DataFile);
        Set("data_file_raw", DataFileRaw ? "on" : null);
        if (Encryption is { } encryption)
        {
            Set("encrypt.format", "luks");
            Set("encrypt.cipher-alg", encryption.Cipher);
            Set("encrypt.cipher-mode", encryption.CipherMode);
            Set("encrypt.ivgen-alg", encryption.IvGenerator);
            Set("encrypt.ivgen-hash-alg", encryption.IvGeneratorHash);
            Set("encrypt.hash-alg", encryption.Hash);
            Set("encrypt.iter-time", ((long)encryption.IterationTime.TotalMilliseconds).ToString(CultureInfo.InvariantCulture));
        }

        return result;

        void Set(string name, string? value)
        {
            if (value is not null)
            {
                result[name] = value;
            }
        }
    }
}
