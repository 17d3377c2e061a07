using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Images;

/// <summary>What a range of a virtual disk is.</summary>
public enum ExtentKind : byte
{
    /// <summary>This image says nothing about it: the backing chain shows through, and zeros where there is none.</summary>
    Unallocated,

    /// <summary>Reads as zeros, by this image's word. A host offset may still be given (a preallocated zero cluster).</summary>
    Zero,

    /// <summary>Plain bytes at <see cref="Extent.HostOffset"/> of <see cref="Extent.Storage"/>.</summary>
    Data,

    /// <summary>Compressed or encrypted: only <see cref="Extent.Driver"/> can turn it into bytes.</summary>
    Encoded,
}

/// <summary>More about an extent.</summary>
[Flags]
public enum ExtentFlags : byte
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Stored compressed (<see cref="ExtentKind.Encoded"/>).</summary>
    Compressed = 1,

    /// <summary>Stored encrypted (<see cref="ExtentKind.Encoded"/>).</summary>
    Encrypted = 2,

    /// <summary>The driver cannot exclude that the storage has holes here that would read as zeros; asking it is worth the price.</summary>
    MayHaveHoles = 4,

    /// <summary>The storage was asked and has a hole here: the bytes are allocated in the image and read as zeros.</summary>
    StorageHole = 8,
}

/// <summary>A guest range of one status: the one answer that reading, <c>map</c>, <c>convert</c>, <c>compare</c> and NBD's block status stand on.</summary>
public readonly record struct Extent
{
    /// <summary>Where it starts on the virtual disk.</summary>
    public required GuestOffset Offset { get; init; }

    /// <summary>Guest bytes; at least 1.</summary>
    public required long Length { get; init; }

    /// <summary>What it is.</summary>
    public required ExtentKind Kind { get; init; }

    /// <summary>More about it.</summary>
    public ExtentFlags Flags { get; init; }

    /// <summary>How many images down the backing chain the answer came from; 0 is the top.</summary>
    public int Depth { get; init; }

    /// <summary>Where the bytes are: set for <see cref="ExtentKind.Data"/> and <see cref="ExtentKind.Encoded"/>, and for a zero extent with a host offset.</summary>
    public Storage? Storage { get; init; }

    /// <summary>Position of the first byte in <see cref="Storage"/>; meaningful when that is set.</summary>
    public HostOffset HostOffset { get; init; }

    /// <summary>Bytes spent in the storage by a compressed extent (an upper bound, as formats record it); 0 otherwise.</summary>
    public long EncodedLength { get; init; }

    /// <summary>Who decodes it (<see cref="ExtentKind.Encoded"/>).</summary>
    public ImageDriver? Driver { get; init; }

    /// <summary>The position after the last byte.</summary>
    public GuestOffset End => Offset + Length;

    /// <summary>Whether it certainly reads as zeros.</summary>
    public bool ReadsZero => Kind is ExtentKind.Zero or ExtentKind.Unallocated || (Flags & ExtentFlags.StorageHole) != 0;

    /// <summary>Whether another extent of the same guest range reads the same for certain, without reading it: both are zeros, or the very same stored bytes.</summary>
    public bool IsSameAs(in Extent other) =>
        ReadsZero
            ? other.ReadsZero
            : !other.ReadsZero && Kind == other.Kind && Flags == other.Flags && HostOffset == other.HostOffset && EncodedLength == other.EncodedLength
                && Storage is not null && (ReferenceEquals(Storage, other.Storage) || (Storage.Identity is { } identity && other.Storage?.Identity == identity));

    /// <summary>The first <paramref name="length"/> bytes of it (all of it when it is shorter).</summary>
    public Extent Take(long length) => length >= Length ? this : this with { Length = length };
}
