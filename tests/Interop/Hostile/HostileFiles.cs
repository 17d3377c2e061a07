using Platter.TestKit;

namespace Platter.Tests.Interop.Hostile;

/// <summary>Pieces that hostile images are made of.</summary>
internal static class HostileFiles
{
    /// <summary>A valid small image with a backing file of that name.</summary>
    public static string Overlay(TempFolder folder, string name, string backing, string? format = "raw")
    {
        new Qcow2Builder { ClusterBits = 12, Size = 1 << 20, BackingFile = backing, BackingFormat = format }.Fill(1, 1).Build().SaveTo(folder[name]);
        return folder[name];
    }

    /// <summary>A valid small image whose guest data are in a file of that name.</summary>
    public static string WithDataFile(TempFolder folder, string name, string dataFile)
    {
        new Qcow2Builder { ClusterBits = 12, Size = 1 << 20, ExternalData = true, DataFileName = dataFile, DataFileRaw = true }.Build().SaveTo(folder[name]);
        return folder[name];
    }

    /// <summary>A valid small image, to be broken.</summary>
    public static Qcow2Image Small(int clusterBits = 16) => new Qcow2Builder { ClusterBits = clusterBits, Size = 16 << 20 }.Fill(1, 0, 5).Build();

    /// <summary>A FIFO that nobody writes to.</summary>
    public static string Fifo(TempFolder folder, string name)
    {
        ToolRunner.RunChecked("mkfifo", folder[name]);
        return folder[name];
    }
}
