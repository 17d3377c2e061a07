namespace Platter.Formats.Parallels.Layout;

/// <summary>One BAT entry as stored: 32 bits, little-endian; the host offset of a cluster from the start of the file, in sectors (v1) or
/// clusters (v2). 0 means that the cluster is not allocated.</summary>
/// <remarks>Spec: qemu <c>docs/interop/parallels</c>, section "BAT". Entries follow the header without a gap.</remarks>
internal readonly record struct BatEntry(uint Value)
{
    /// <summary>Bytes of an entry.</summary>
    public const int Size = 4;

    /// <summary>Whether the cluster has no place in the file.</summary>
    public bool IsUnallocated => Value == 0;

    /// <summary>Host offset of entry <paramref name="index"/> itself, in bytes.</summary>
    public static long PositionOf(long index) => ParallelsHeader.Size + (index * Size);
}
