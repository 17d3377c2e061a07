using System.Globalization;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Create;

/// <summary>How much of a new image gets a place from the start.</summary>
internal enum Preallocation
{
    /// <summary>Nothing.</summary>
    Off,

    /// <summary>Every cluster has its place in the file, which stays sparse.</summary>
    Metadata,

    /// <summary>The host sets the space aside.</summary>
    Falloc,

    /// <summary>Zeros are written everywhere.</summary>
    Full,
}

/// <summary>The options of a new qcow2 image, by the names QEMU's tools give them, judged alone and together.</summary>
internal sealed record Qcow2CreateSettings
{
    private const int MinClusterBits = Qcow2Geometry.MinClusterBits, MaxClusterBits = Qcow2Geometry.MaxClusterBits;

    /// <summary>The options in the order in which the peers tell them.</summary>
    public static CreateOptionList Options { get; } = new(
        new("encryption", CreateOptionKind.Switch, "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"),
        new("encrypt.format", CreateOptionKind.Text, "Encrypt the image, format choices: 'aes', 'luks'"),
        new("encrypt.key-secret", CreateOptionKind.Text, "ID of secret providing qcow AES key or LUKS passphrase"),
        new("encrypt.cipher-alg", CreateOptionKind.Text, "Name of encryption cipher algorithm"),
        new("encrypt.cipher-mode", CreateOptionKind.Text, "Name of encryption cipher mode"),
        new("encrypt.ivgen-alg", CreateOptionKind.Text, "Name of IV generator algorithm"),
        new("encrypt.ivgen-hash-alg", CreateOptionKind.Text, "Name of IV generator hash algorithm"),
        new("encrypt.hash-alg", CreateOptionKind.Text, "Name of encryption hash algorithm"),
        new("encrypt.iter-time", CreateOptionKind.Number, "Time to spend in PBKDF in milliseconds"),
        new("cluster_size", CreateOptionKind.Size, "qcow2 cluster size", "65536"),
        new("extended_l2", CreateOptionKind.Switch, "Extended L2 tables", "off"),
        new("preallocation", CreateOptionKind.Text, "Preallocation mode (allowed values: off, metadata, falloc, full)"),
        new("compression_type", CreateOptionKind.Text, "Compression method used for image cluster compression", "zlib"),
        new("size", CreateOptionKind.Size, "Virtual disk size"),
        new("compat", CreateOptionKind.Text, "Compatibility level (v2 [0.10] or v3 [1.1])"),
        new("backing_file", CreateOptionKind.Text, "File name of a base image"),
        new("backing_fmt", CreateOptionKind.Text, "Image format of the base image"),
        new("data_file", CreateOptionKind.Text, "File name of an external data file"),
        new("data_file_raw", CreateOptionKind.Switch, "The external data file must stay valid as a raw image"),
        new("lazy_refcounts", CreateOptionKind.Switch, "Postpone refcount updates", "off"),
        new("refcount_bits", CreateOptionKind.Number, "Width of a reference count entry in bits", "16"),
        new("nocow", CreateOptionKind.Switch, "Turn off copy-on-write (valid only on btrfs)"),
        new("extent_size_hint", CreateOptionKind.Size, "Extent size hint for the image file, 0 to disable"));

    /// <summary>Cluster size in bytes.</summary>
    public long ClusterSize { get; private init; } = 64 * Sizes.KiB;

    /// <summary>Bits of a refcount.</summary>
    public int RefcountBits { get; private init; } = 16;

    /// <summary>Bytes of an L2 entry.</summary>
    public int L2EntryBytes { get; private init; } = 8;

    /// <summary>How much gets a place from the start.</summary>
    public Preallocation Preallocation { get; private init; }

    /// <summary>Whether every cluster gets space from the start.</summary>
    public bool FullyAllocated => Preallocation is Preallocation.Falloc or Preallocation.Full;

    /// <summary>How guest data is encrypted.</summary>
    public CryptMethod CryptMethod { get; private init; }

    /// <summary>Whether a LUKS header is part of the image.</summary>
    public bool Luks => CryptMethod == CryptMethod.Luks;

    /// <summary>Id of the password, or null.</summary>
    public string? KeySecret { get; private init; }

    /// <summary>The options under <c>encrypt.</c>, for LUKS.</summary>
    public NodeOptions Encryption { get; private init; } = new();

    /// <summary>Version 3; otherwise 2.</summary>
    public bool Version3 { get; private init; } = true;

    /// <summary>How clusters will be compressed.</summary>
    public CompressionType CompressionType { get; private init; }

    /// <summary>Whether refcounts may lag behind.</summary>
    public bool LazyRefcounts { get; private init; }

    /// <summary>Name of the backing file, or null.</summary>
    public string? BackingFile { get; private init; }

    /// <summary>Format of the backing file, or null.</summary>
    public string? BackingFormat { get; private init; }

    /// <summary>Name of the data file, or null.</summary>
    public string? DataFile { get; private init; }

    /// <summary>Whether the data file alone is a raw image of the disk.</summary>
    public bool DataFileRaw { get; private init; }

    /// <summary>log2 of the cluster size.</summary>
    public int ClusterBits => System.Numerics.BitOperations.Log2((ulong)ClusterSize);

    /// <summary>log2 of the refcount width.</summary>
    public int RefcountOrder => System.Numerics.BitOperations.Log2((ulong)RefcountBits);

    /// <summary>Whether L2 entries have subclusters.</summary>
    public bool ExtendedL2 => L2EntryBytes == 16;

    /// <summary>Parses and checks.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>, naming the option.</exception>
    public static Qcow2CreateSettings Parse(NodeOptions given)
    {
        var options = Options.Normalize(given);
        var dataFileRaw = options.GetSwitch("data_file_raw", otherwise: false);
        var (crypt, encryption) = CryptMethodOf(options);
        var result = new Qcow2CreateSettings
        {
            Version3 = options["compat"] switch
            {
                null or "1.1" or "v3" => true,
                "0.10" or "v2" => false,
                var other => throw NotAccepted("version", other),
            },
            ClusterSize = ClusterSizeOf(options),
            RefcountBits = RefcountBitsOf(options),
            L2EntryBytes = options.GetSwitch("extended_l2", otherwise: false) ? 16 : 8,
            LazyRefcounts = options.GetSwitch("lazy_refcounts", otherwise: false),
            CompressionType = options["compression_type"] switch
            {
                null or "zlib" => CompressionType.Zlib,
                "zstd" => CompressionType.Zstd,
                var other => throw NotAccepted("compression-type", other),
            },
            Preallocation = PreallocationOf(options) is var preallocation && dataFileRaw && preallocation == Preallocation.Off
                ? Preallocation.Metadata
                : preallocation,
            BackingFile = options["backing_file"],
            BackingFormat = options["backing_fmt"],
            DataFile = options["data_file"],
            DataFileRaw = dataFileRaw,
            CryptMethod = crypt,
            Encryption = encryption,
            KeySecret = encryption["key-secret"],
        };
        result.CheckTogether();
        return result;
    }

    private void CheckTogether()
    {
        const string OnlyVersion3 = "only supported with compatibility level 1.1 and above (use version=v3 or greater)";
        var problem =
            DataFileRaw && DataFile is null ? "data-file-raw requires data-file"
            : DataFileRaw && BackingFile is not null ? "Backing file and data-file-raw cannot be used at the same time"
            : ExtendedL2 && !Version3 ? $"Extended L2 entries are {OnlyVersion3}"
            : ExtendedL2 && ClusterBits < Qcow2Geometry.MinExtendedClusterBits
                ? $"Extended L2 entries are only supported with cluster sizes of at least {1 << Qcow2Geometry.MinExtendedClusterBits} bytes"
            : Preallocation != Preallocation.Off && BackingFile is not null && !ExtendedL2
                ? "Backing file and preallocation can only be used at the same time if extended_l2 is on"
            : BackingFormat is not null && BackingFile is null ? "Backing format cannot be used without backing file"
            : LazyRefcounts && !Version3 ? $"Lazy refcounts {OnlyVersion3}"
            : RefcountBits != 16 && !Version3
                ? "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)"
            : DataFile is not null && !Version3 ? $"External data files are {OnlyVersion3}"
            : CompressionType != CompressionType.Zlib && !Version3 ? $"Non-zlib compression type is {OnlyVersion3}"
            : BackingFile is not null && Encoding.UTF8.GetByteCount(BackingFile) > Qcow2Header.MaxBackingNameBytes
                ? $"Could not assign backing file '{SafeText.Clean(BackingFile, 64)}': the name has more than {Qcow2Header.MaxBackingNameBytes} bytes"
            : null;
        if (problem is not null)
        {
            throw Invalid(problem);
        }
    }

    private static (CryptMethod Method, NodeOptions Options) CryptMethodOf(NodeOptions options)
    {
        var old = options.GetSwitch("encryption", otherwise: false);
        var encryption = options.Child("encrypt");
        var format = encryption["format"];
        if (old && format is not null)
        {
            throw Invalid("'encrypt.format' and its alias 'encryption' can't be used at the same time");
        }

        format ??= old ? "aes" : null;
        switch (format)
        {
            case null:
                return encryption.Keys.Count == 0 ? (CryptMethod.None, encryption) : throw Invalid("Parameter 'encrypt.format' is missing");
            case "aes":
                foreach (var key in encryption.Keys)
                {
                    if (key is not ("format" or "key-secret"))
                    {
                        throw Invalid($"Parameter 'encrypt.{key}' is unexpected");
                    }
                }

                return (CryptMethod.Aes, encryption);
            case "luks":
                return (CryptMethod.Luks, encryption);
            default:
                throw NotAccepted("format", format);
        }
    }

    private static Preallocation PreallocationOf(NodeOptions options) => options["preallocation"] switch
    {
        null or "off" => Preallocation.Off,
        "metadata" => Preallocation.Metadata,
        "falloc" => Preallocation.Falloc,
        "full" => Preallocation.Full,
        var other => throw NotAccepted("preallocation", other),
    };

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

        return int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var bits) && bits is 1 or 2 or 4 or 8 or 16 or 32 or 64
            ? bits
            : throw Invalid("Refcount width must be a power of two and may not exceed 64 bits");
    }

    private static BlockException NotAccepted(string parameter, string value) =>
        Invalid($"Parameter '{parameter}' does not accept value '{SafeText.Clean(value, 64)}'");

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
