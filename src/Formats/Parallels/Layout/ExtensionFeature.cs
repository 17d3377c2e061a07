namespace Platter.Formats.Parallels.Layout;

/// <summary>Header of one feature section of the Format Extension.</summary>
/// <param name="Magic">Which feature; 0 ends the list.</param>
/// <param name="Flags">Bit 0 NECESSARY, bit 1 TRANSIT.</param>
/// <param name="DataAt">Where its data begins, in bytes from the start of the extension cluster.</param>
/// <param name="DataSize">Bytes of its data.</param>
internal readonly record struct ExtensionFeature(ulong Magic, ulong Flags, int DataAt, int DataSize)
{
    /// <summary>The dirty bitmaps feature.</summary>
    public const ulong DirtyBitmapMagic = 0x20385FAE252CB34A;

    /// <summary>Whoever does not understand the feature must not change the image.</summary>
    public bool IsNecessary => (Flags & 1) != 0;

    /// <summary>Whoever does not understand the feature shall leave it as it is.</summary>
    public bool IsTransit => (Flags & 2) != 0;
}
