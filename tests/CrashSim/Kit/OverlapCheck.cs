using System.Buffers.Binary;

namespace Platter.Tests.CrashSim;

/// <summary>Looks for clusters that are metadata and something else as well, from the bytes alone and without Platter's own check.</summary>
/// <remarks>Refcounts are not believed and not needed, so it also holds an image to account that says its refcounts may be wrong: a repair must find its tables where the header has them.</remarks>
internal static class OverlapCheck
{
    private const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;

    /// <summary>Null, or the first overlap.</summary>
    public static string? Find(ReadOnlySpan<byte> image)
    {
        var bits = (int)U32(image, 20);
        var v3 = U32(image, 4) >= 3;
        var incompatible = v3 ? U64(image, 72) : 0;
        var (hasDataFile, extended) = ((incompatible & 4) != 0, (incompatible & 16) != 0);
        var owners = new Dictionary<long, string> { [0] = "the header" };
        var problem = default(string);
        void Claim(ulong at, long bytes, string what)
        {
            for (var cluster = (long)at >> bits; bytes > 0 && cluster <= ((long)at + bytes - 1) >> bits; cluster++)
            {
                if (!owners.TryAdd(cluster, what) && owners[cluster] != what)
                {
                    problem ??= $"the cluster at 0x{cluster << bits:x} is {owners[cluster]} and {what}";
                }
            }
        }

        var (tableAt, tableClusters) = (U64(image, 48), U32(image, 56));
        Claim(tableAt, (long)tableClusters << bits, "the refcount table");
        for (long i = 0; i < ((long)tableClusters << bits) / 8; i++)
        {
            var block = U64(image, (long)tableAt + (i * 8));
            if (block != 0)
            {
                Claim(block, 1, $"refcount block {i}");
            }
        }

        var trees = new List<(ulong At, uint Entries, string Name)> { (U64(image, 40), U32(image, 36), "the L1 table") };
        var at = (long)U64(image, 64);
        for (var left = U32(image, 60); left > 0; left--)
        {
            trees.Add((U64(image, at), U32(image, at + 8), $"the L1 table of a snapshot at 0x{at:x}"));
            var length = 40 + U32(image, at + 36) + U16(image, at + 12) + U16(image, at + 14);
            Claim((ulong)at, length, "the snapshot table");
            at += (length + 7) & ~7;
        }

        var tables = new SortedSet<ulong>();
        foreach (var (l1, entries, name) in trees)
        {
            Claim(l1, entries * 8L, name);
            for (long i = 0; i < entries; i++)
            {
                var table = U64(image, (long)l1 + (i * 8)) & OffsetMask;
                if (table != 0)
                {
                    tables.Add(table);
                    Claim(table, 1, "an L2 table");
                }
            }
        }

        var metadata = new Dictionary<long, string>(owners);
        var width = extended ? 16 : 8;
        foreach (var table in tables)
        {
            for (long i = 0; !hasDataFile && i < (1L << bits) / width; i++)
            {
                var entry = U64(image, (long)table + (i * width));
                var host = (entry >> 62 & 1) != 0 ? (long)(entry & ((1UL << (62 - (bits - 8))) - 1)) : (long)(entry & OffsetMask);
                if (host != 0 && metadata.TryGetValue(host >> bits, out var what))
                {
                    problem ??= $"the cluster at 0x{host >> bits << bits:x} is {what}, and entry {i} of the L2 table at 0x{table:x} has guest data there";
                }
            }
        }

        return problem;
    }

    // Behind the end of the file everything reads as zeros.
    private static ulong U64(ReadOnlySpan<byte> image, long at) => ((ulong)U32(image, at) << 32) | U32(image, at + 4);

    private static uint U32(ReadOnlySpan<byte> image, long at) => at >= 0 && at + 4 <= image.Length ? BinaryPrimitives.ReadUInt32BigEndian(image[(int)at..]) : 0;

    private static ushort U16(ReadOnlySpan<byte> image, long at) => at >= 0 && at + 2 <= image.Length ? BinaryPrimitives.ReadUInt16BigEndian(image[(int)at..]) : (ushort)0;
}
