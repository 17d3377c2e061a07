namespace Platter.TestKit;

/// <summary>The sample in <c>samples/</c>: a machine with one disk, two snapshots and a current state, as Parallels Desktop lays them out.</summary>
public static class DemoMachine
{
    /// <summary>GUID of the snapshot "Clean install".</summary>
    public static readonly Guid CleanInstall = new("1c7ad7a2-54a7-4f43-9f4a-3c3fd7a1b0e1");

    /// <summary>GUID of the snapshot "After first update".</summary>
    public static readonly Guid AfterFirstUpdate = new("7e04f0d9-2a9b-4d0c-8c55-64a8b1f0c2d3");

    /// <summary>Builds the machine directory from the raw content of the disk at each snapshot and now.</summary>
    /// <param name="cleanInstall">Raw disk at the first snapshot; all three have one size, a multiple of 512 bytes.</param>
    /// <param name="afterFirstUpdate">Raw disk at the second snapshot.</param>
    /// <param name="current">Raw disk now.</param>
    public static BuiltBundle Build(SparseBytes cleanInstall, SparseBytes afterFirstUpdate, SparseBytes current)
    {
        // Clusters of 64 KiB instead of the usual 1 MiB keep the sample small; "Blocksize" and the headers say so.
        var disk = new BundleBuilder("harddisk", cleanInstall.Length / 512, clusterSectors: 128) { Magic = ParallelsMagic.WithoutFreeSpace };
        foreach (var (layer, content) in new[]
        {
            (disk.AddLayer(CleanInstall), cleanInstall),
            (disk.AddLayer(AfterFirstUpdate), afterFirstUpdate),
            (disk.AddTop(), current),
        })
        {
            layer.Placement = HostPlacement.Ascending;
            layer.WriteChanges(content);
        }

        return new MachineBuilder("demo")
            .Add(disk.Build())
            .AddSnapshot(CleanInstall, "Clean install", new DateTime(2024, 3, 1, 9, 0, 0), description: "As the installer left it")
            .AddSnapshot(AfterFirstUpdate, "After first update", new DateTime(2024, 3, 8, 18, 30, 0), CleanInstall)
            .Build();
    }
}
