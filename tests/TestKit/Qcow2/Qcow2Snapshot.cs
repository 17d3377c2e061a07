using System.Text;

namespace Platter.TestKit;

/// <summary>An internal snapshot to take of a qcow2 image under construction.</summary>
/// <remarks>Spec: "Snapshots".</remarks>
public sealed class Qcow2Snapshot(string id, string name)
{
    /// <summary>Unique id in bytes.</summary>
    public byte[] Id { get; init; } = Encoding.UTF8.GetBytes(id);

    /// <summary>Name in bytes.</summary>
    public byte[] Name { get; init; } = Encoding.UTF8.GetBytes(name);

    /// <summary>Seconds since the Epoch.</summary>
    public uint DateSeconds { get; init; } = 1_700_000_000;

    /// <summary>Nanoseconds on top.</summary>
    public uint DateNanoseconds { get; init; } = 123_456_789;

    /// <summary>How long the guest had run, in nanoseconds.</summary>
    public ulong VmClockNanoseconds { get; init; } = 5_000_000_000;

    /// <summary>Saved state of the machine; stored as guest data behind the end of the disk.</summary>
    public byte[] VmState { get; init; } = [];

    /// <summary>Bytes of extra data: 0 and 8 are found in v2 images, 16 is what v3 demands, 24 what QEMU writes; more is filled with unknown bytes.</summary>
    public int ExtraDataSize { get; init; } = 24;

    /// <summary>The icount in bytes 16 to 23 of the extra data; all ones for "not known".</summary>
    public ulong InstructionCount { get; init; } = ulong.MaxValue;

    /// <summary>Entries of the L1 table; null for as many as the disk and the machine's state need.</summary>
    public uint? L1Size { get; init; }
}
