using System.Buffers.Binary;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>Data of the header extension 0x504c5353, which is ours: which snapshot the image is.</summary>
/// <remarks>
/// Readers that do not know an extension's type leave it alone, and QEMU writes it back whenever it changes the header. All numbers are big-endian:
/// <code>
///  0  8  when the snapshot was taken: seconds since 1970, signed; 0 with 0 nanoseconds when nobody knows
///  8  4  and nanoseconds
/// 12  ...  its name, UTF-8, to the end
/// </code>
/// It is a note to people and to conversions, and nothing that a guest reads depends on it: what makes no sense is passed over.
/// </remarks>
internal static class SnapshotLabelExtension
{
    private const int SecondsAt = 0, NanosecondsAt = 8, NameAt = 12;
    private const int NanosecondsPerTick = 100;

    /// <summary>The label, or null when the data are none.</summary>
    public static SnapshotLabel? Parse(ReadOnlySpan<byte> data)
    {
        if (data.Length <= NameAt)
        {
            return null;
        }

        var seconds = BinaryPrimitives.ReadInt64BigEndian(data[SecondsAt..]);
        var nanoseconds = BinaryPrimitives.ReadUInt32BigEndian(data[NanosecondsAt..]);
        return nanoseconds < 1_000_000_000 && seconds >= DateTimeOffset.MinValue.ToUnixTimeSeconds() && seconds <= DateTimeOffset.MaxValue.ToUnixTimeSeconds()
            ? new(Encoding.UTF8.GetString(data[NameAt..]), DateTimeOffset.FromUnixTimeSeconds(seconds).AddTicks(nanoseconds / NanosecondsPerTick))
            : null;
    }

    /// <summary>The data for a label.</summary>
    public static byte[] ToBytes(SnapshotLabel label)
    {
        var data = new byte[NameAt + Encoding.UTF8.GetByteCount(label.Name)];
        var seconds = label.Date.ToUnixTimeSeconds();
        var ticks = (label.Date - DateTimeOffset.FromUnixTimeSeconds(seconds)).Ticks;
        BinaryPrimitives.WriteInt64BigEndian(data.AsSpan(SecondsAt), seconds);
        BinaryPrimitives.WriteUInt32BigEndian(data.AsSpan(NanosecondsAt), (uint)(ticks * NanosecondsPerTick));
        Encoding.UTF8.GetBytes(label.Name, data.AsSpan(NameAt));
        return data;
    }

    /// <summary>A header with the label, or as it was where there is no room: half of the cluster stays free for names that may come.</summary>
    public static HeaderCluster AddTo(HeaderCluster cluster, SnapshotLabel label)
    {
        var labelled = cluster with { Label = ToBytes(label) };
        if (label.Name.Length == 0 || labelled.Label.Value.Length > 1 << ((int)cluster.Header.ClusterBits - 1))
        {
            return cluster;
        }

        try
        {
            _ = labelled.ToBytes(string.Empty);
            return labelled;
        }
        catch (BlockException)
        {
            return cluster;
        }
    }
}
