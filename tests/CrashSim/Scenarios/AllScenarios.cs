namespace Platter.Tests.CrashSim;

/// <summary>The one list of scenarios.</summary>
internal static class AllScenarios
{
    private static readonly DiskShape[] s_shapes =
    [
        new("plain"),
        new("64k") { ClusterBits = 16, Clusters = 9 },
        new("512") { ClusterBits = 9, Clusters = 120 },
        new("v2") { Version = 2, Snapshot = true },
        new("v2-backing") { Version = 2, Backing = true, ClusterBits = 13, Clusters = 20 },
        new("backing") { Backing = true },
        new("snapshot") { Backing = true, Snapshot = true, ClusterBits = 10, Clusters = 80 },
        new("extended") { ExtendedL2 = true, ClusterBits = 14, Backing = true, Snapshot = true, Clusters = 16 },
        new("refcount-1") { RefcountOrder = 0, ClusterBits = 10, Backing = true },
        new("refcount-64") { RefcountOrder = 6, ClusterBits = 9, Snapshot = true, Clusters = 100 },
        new("data-file") { DataFile = 1, Backing = true },
        new("data-file-raw") { DataFile = 2 },
        new("data-file-extended") { DataFile = 1, ExtendedL2 = true, ClusterBits = 14, Clusters = 16 },
        new("lazy") { Lazy = true, ClusterBits = 10, Backing = true },
        new("lazy-snapshot") { Lazy = true, ClusterBits = 9, Snapshot = true, RefcountOrder = 5 },
    ];

    private static readonly DiskShape[] s_few =
    [
        new("empty") { Filled = 0, Clusters = 8 },
        new("plain") { Clusters = 8 },
        new("snapshot") { Snapshot = true, ClusterBits = 9, Clusters = 24 },
        new("backing") { Backing = true, ClusterBits = 10, Clusters = 12 },
        new("v2") { Version = 2, ClusterBits = 9, Clusters = 24 },
        new("extended") { ExtendedL2 = true, ClusterBits = 14, Backing = true, Clusters = 4 },
        new("data-file") { DataFile = 1, ClusterBits = 10, Clusters = 12 },
        new("lazy") { Lazy = true, ClusterBits = 9, Clusters = 24 },
    ];

    private static readonly DiskShape[] s_withBitmaps =
    [
        new("bitmaps") { Bitmaps = true },
        new("bitmaps-512") { Bitmaps = true, ClusterBits = 9, Clusters = 110, Backing = true, Snapshot = true },
        new("bitmaps-lazy") { Bitmaps = true, Lazy = true, ClusterBits = 10 },
        new("bitmaps-data-file") { Bitmaps = true, DataFile = 1 },
    ];

    private static readonly HdsShape[] s_hds =
    [
        new("hds"),
        new("hds-v2") { Version = 2, ClusterSectors = 16, Clusters = 20 },
        new("hds-63") { ClusterSectors = 63, DataOffset = 0, Clusters = 7 },
        new("hds-512") { ClusterSectors = 1, DataOffset = 0, Clusters = 90 },
        new("hds-backing") { Version = 2, Backing = true },
        new("hds-bitmaps") { Bitmaps = true },
        new("hds-empty") { SaysEmpty = true, Backing = true, ClusterSectors = 4 },
        new("hds-unclean") { Unclean = true, Version = 2, ClusterSectors = 3 },
    ];

    private static readonly HdsShape[] s_fewHds =
    [
        new("hds") { Clusters = 8 },
        new("hds-v2-backing") { Version = 2, Backing = true, ClusterSectors = 4, Clusters = 6 },
        new("hds-bitmaps") { Bitmaps = true, ClusterSectors = 3, Clusters = 8 },
        new("hds-empty") { SaysEmpty = true, ClusterSectors = 2, Clusters = 8 },
    ];

    /// <summary>Every scenario.</summary>
    public static IReadOnlyList<CrashScenario> List { get; } =
    [
        .. s_few.Select(shape => new FewRequests(shape)),
        .. s_shapes.Concat(s_withBitmaps).Select(shape => new RandomRequests(shape)),
        new FewRequests(new DiskShape("bitmaps") { Bitmaps = true, ClusterBits = 10, Clusters = 12 }),
        new FewRequests(new DiskShape("bitmaps-512") { Bitmaps = true, ClusterBits = 9, Clusters = 24, Snapshot = true }),
        new ConcurrentRequests(new DiskShape("plain")),
        new ConcurrentRequests(new DiskShape("snapshot") { Snapshot = true, Backing = true, ClusterBits = 13, Clusters = 24 }),
        new ConcurrentRequests(new DiskShape("extended") { ExtendedL2 = true, ClusterBits = 14, Backing = true, Clusters = 12 }),
        new ConcurrentRequests(new DiskShape("data-file") { DataFile = 1, ClusterBits = 14, Clusters = 12 }),
        new Growth(new("512") { ClusterBits = 9, RefcountOrder = 6, Clusters = 700, Filled = 0.1, Gap = 3600 }),
        new Growth(new("1k") { ClusterBits = 10, RefcountOrder = 5, Clusters = 700, Filled = 0.1, Backing = true }),
        new Growth(new("lazy") { ClusterBits = 9, RefcountOrder = 6, Clusters = 700, Filled = 0.1, Gap = 3600, Lazy = true }),
        new Resizes(new DiskShape("plain") { ClusterBits = 9, Clusters = 70 }),
        new Resizes(new DiskShape("backing") { ClusterBits = 10, Backing = true, BackingBeyond = 9000 * 2 }),
        new Resizes(new DiskShape("snapshot") { ClusterBits = 9, Snapshot = true, Clusters = 70 }),
        new Resizes(new DiskShape("extended") { ExtendedL2 = true, ClusterBits = 14, Backing = true, BackingBeyond = 40960, Clusters = 6 }),
        new Resizes(new DiskShape("bitmaps") { Bitmaps = true, ClusterBits = 9, Clusters = 3000, Filled = 0.02 }),
        new BitmapEdits(new("none") { ClusterBits = 10, Clusters = 10 }, exhaustive: true),
        new BitmapEdits(new("plain") { Bitmaps = true, ClusterBits = 10, Clusters = 10 }, exhaustive: true),
        new BitmapEdits(new("512") { Bitmaps = true, ClusterBits = 9, Backing = true, Snapshot = true, Clusters = 80 }, exhaustive: false),
        new BitmapEdits(new("64k") { Bitmaps = true, ClusterBits = 16, Clusters = 6, RefcountOrder = 2 }, exhaustive: false),
        new BitmapEdits(new("far") { Bitmaps = true, ClusterBits = 13, Backing = true, FeatureNames = 10, Clusters = 12 }, exhaustive: false),
        new BitmapEdits(new("lazy") { Bitmaps = true, Lazy = true, ClusterBits = 12 }, exhaustive: false),
        new Resizes(new DiskShape("512") { ClusterBits = 9, Clusters = 70 }, preallocates: true),
        new Resizes(new DiskShape("extended") { ExtendedL2 = true, ClusterBits = 14, Backing = true, BackingBeyond = 40960, Clusters = 6 }, preallocates: true),
        new Resizes(new DiskShape("data-file") { DataFile = 1, ClusterBits = 10, Clusters = 20 }, preallocates: true),
        new Resizes(new DiskShape("data-file-raw") { DataFile = 2, ClusterBits = 10, Clusters = 20 }, preallocates: true),
        new SnapshotEdits(new("plain") { ClusterBits = 10, Clusters = 20 }, exhaustive: true),
        new SnapshotEdits(new("v2") { Version = 2, ClusterBits = 9, Clusters = 60 }, exhaustive: false),
        new SnapshotEdits(new("snapshot") { Snapshot = true, Backing = true, ClusterBits = 10 }, exhaustive: false),
        new SnapshotEdits(new("extended") { ExtendedL2 = true, ClusterBits = 14, Snapshot = true, Clusters = 8 }, exhaustive: false),
        new SnapshotEdits(new("lazy") { Lazy = true, ClusterBits = 9, RefcountOrder = 5, Clusters = 200 }, exhaustive: false),
        new Commits(new("plain") { Backing = true, Clusters = 12 }),
        new Commits(new("512") { Backing = true, ClusterBits = 9, Clusters = 100, BackingBeyond = 4096 }),
        new Commits(new("v2") { Version = 2, Backing = true, ClusterBits = 10, Clusters = 30 }),
        new Commits(new("extended") { ExtendedL2 = true, ClusterBits = 14, Backing = true, Clusters = 6 }),
        new Commits(new("data-file") { DataFile = 1, Backing = true, ClusterBits = 10, Clusters = 20 }),
        new Rebases(new("plain") { Backing = true, Clusters = 12 }),
        new Rebases(new("512") { Backing = true, ClusterBits = 9, Clusters = 100 }),
        new Rebases(new("v2") { Version = 2, Backing = true, ClusterBits = 10, Clusters = 30 }),
        new Rebases(new("extended") { ExtendedL2 = true, ClusterBits = 14, Backing = true, Clusters = 6 }),
        new Rebases(new("plain") { Backing = true, Clusters = 12 }, flattens: true),
        new Amends(new("plain") { Clusters = 12 }),
        new Amends(new("512") { ClusterBits = 9, Clusters = 100, Snapshot = true }),
        new Amends(new("v2") { Version = 2, Snapshot = true, Clusters = 12 }),
        new Amends(new("backing") { Backing = true, Snapshot = true, ClusterBits = 10, Clusters = 24 }),
        new KeyChanges(),
        new Repairs(new("plain") { ClusterBits = 10, Clusters = 20 }, exhaustive: true),
        new Repairs(new("64k") { ClusterBits = 16, Clusters = 9 }, exhaustive: false),
        new Repairs(new("v2") { Version = 2, ClusterBits = 9, Clusters = 60, Snapshot = true }, exhaustive: false),
        new Repairs(new("snapshot") { Snapshot = true, Backing = true, ClusterBits = 10 }, exhaustive: false),
        new Repairs(new("extended") { ExtendedL2 = true, ClusterBits = 14, Snapshot = true, Clusters = 8 }, exhaustive: false),
        new Repairs(new("refcount-1") { RefcountOrder = 0, ClusterBits = 10, Backing = true }, exhaustive: false),
        new Repairs(new("refcount-64") { RefcountOrder = 6, ClusterBits = 9, Snapshot = true, Clusters = 100 }, exhaustive: false),
        new Repairs(new("data-file") { DataFile = 1, ClusterBits = 10, Clusters = 12 }, exhaustive: false),
        new BundleEdits("plain"),
        new BundleEdits("expandable"),
        new BundleEdits("split"),
        new BundleEdits("top-guid"),
        new BundleEdits("machine"),
        new FewBundleEdits("take"),
        new FewBundleEdits("apply"),
        new FewBundleEdits("delete-up"),
        new FewBundleEdits("delete-down"),
        new FewBundleEdits("delete-leaf"),
        new FewBundleEdits("commit"),
        new FewBundleEdits("grow"),
        new FewBundleEdits("shrink"),
        new BundleCreations(),
        .. s_fewHds.Select(shape => new FewRequests(shape)),
        .. s_hds.Select(shape => new RandomRequests(shape)),
        new ConcurrentRequests(new HdsShape("hds") { ClusterSectors = 21, Clusters = 12 }),
        new Resizes(new HdsShape("hds") { ClusterSectors = 1, DataOffset = 0, Clusters = 80 }),
        new Resizes(new HdsShape("hds-v2") { Version = 2, ClusterSectors = 2, Clusters = 150 }),
        new Resizes(new HdsShape("hds-backing") { Backing = true, BackingBeyond = 9000, ClusterSectors = 2, Clusters = 200, Filled = 0.2 }),
        new Resizes(new HdsShape("hds-bitmaps") { Bitmaps = true, ClusterSectors = 4, Clusters = 400, Filled = 0.05 }),
        new HdsBitmapEdits(new("hds") { ClusterSectors = 2, Clusters = 10 }, exhaustive: true),
        new HdsBitmapEdits(new("hds-bitmaps") { Bitmaps = true, Version = 2, ClusterSectors = 4, Clusters = 30, Backing = true }, exhaustive: false),
        new DirtyOpenings(new("plain") { ClusterBits = 10, Backing = true, Lazy = true }),
        new DirtyOpenings(new("snapshot") { ClusterBits = 9, Snapshot = true, RefcountOrder = 5, Lazy = true }),
    ];

    /// <summary>A scenario by name.</summary>
    public static CrashScenario Find(string name) => List.First(s => s.Name == name);
}
