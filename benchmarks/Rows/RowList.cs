namespace Platter.Bench.Rows;

/// <summary>All benchmarks, in the order of the table.</summary>
internal static class RowList
{
    public static IReadOnlyList<Benchmark> All { get; } = [.. StartRows.All, .. ConvertRows.All, .. MetadataRows.All, .. WriteRows.All, .. BundleRows.All, .. NbdServerRows.All, .. NbdClientRows.All];
}
