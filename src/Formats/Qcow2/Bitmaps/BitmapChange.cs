namespace Platter.Formats.Qcow2.Bitmaps;

/// <summary>A change of the list of bitmaps that is being prepared beside the current one.</summary>
internal sealed class BitmapChange(IEnumerable<StoredBitmap> current)
{
    /// <summary>The bitmaps as they will be.</summary>
    public List<StoredBitmap> Next { get; } = [.. current];

    /// <summary>Clusters (first, count) that only the new list needs: given back if it does not come to that.</summary>
    public List<(long First, long Count)> Fresh { get; } = [];

    /// <summary>Clusters that only the old list needs: given back afterwards.</summary>
    public List<(long First, long Count)> Obsolete { get; } = [];

    /// <summary>First cluster of the new directory; 0 when there is none.</summary>
    public long DirectoryCluster { get; set; }

    /// <summary>The new directory in whole clusters.</summary>
    public byte[] Directory { get; set; } = [];
}
