using Platter.Core.Images;

namespace Platter.Cli.Output;

/// <summary>Writes what <c>info</c> tells of an image as the JSON object that qemu-img calls ImageInfo.</summary>
internal static class InfoJson
{
    /// <summary>Writes one image.</summary>
    /// <param name="json">Where to.</param>
    /// <param name="info">What the driver told.</param>
    /// <param name="disk">Which disk of a machine it is, if it is told of with others.</param>
    public static void Write(JsonOutput json, ImageInfo info, string? disk = null)
    {
        json.BeginObject();
        if (disk is not null)
        {
            json.Member("disk", disk);
        }

        if (info.Snapshots.Count > 0)
        {
            json.Name("snapshots");
            json.BeginArray();
            foreach (var snapshot in info.Snapshots)
            {
                WriteSnapshot(json, snapshot);
            }

            json.EndArray();
        }

        if (info.BackingFormat is { } format)
        {
            json.Member("backing-filename-format", format);
        }

        json.Member("virtual-size", info.VirtualSize);
        json.Member("filename", info.FileName);
        if (info.ClusterSize is { } clusterSize and > 0)
        {
            json.Member("cluster-size", clusterSize);
        }

        json.Member("format", info.Format);
        if (info.AllocatedSize is { } allocated)
        {
            json.Member("actual-size", allocated);
        }

        if (InfoText.FormatSpecificData(info) is { Count: > 0 } data)
        {
            json.Name("format-specific");
            json.BeginObject();
            json.Member("type", info.Format);
            json.Name("data");
            json.Value(data);
            json.EndObject();
        }

        if (info.FullBackingName is { } full)
        {
            json.Member("full-backing-filename", full);
        }

        if (info.BackingName is { } backing)
        {
            json.Member("backing-filename", backing);
        }

        if (info.Encrypted)
        {
            json.Member("encrypted", true);
        }

        if (info.Dirty is { } dirty)
        {
            json.Member("dirty-flag", dirty);
        }

        json.EndObject();
    }

    private static void WriteSnapshot(JsonOutput json, SnapshotInfo snapshot)
    {
        json.BeginObject();
        if (snapshot.InstructionCount is { } count)
        {
            json.Member("icount", unchecked((long)count));
        }

        json.Member("vm-clock-nsec", (long)(snapshot.VmClockNanoseconds % 1_000_000_000));
        json.Member("name", snapshot.Name);
        json.Member("date-sec", snapshot.Date == default ? 0 : snapshot.Date.ToUnixTimeSeconds());
        json.Member("date-nsec", snapshot.DateNanoseconds);
        json.Member("vm-clock-sec", (long)(snapshot.VmClockNanoseconds / 1_000_000_000));
        json.Member("id", snapshot.Id);
        json.Member("vm-state-size", snapshot.VmStateSize);
        json.EndObject();
    }
}
