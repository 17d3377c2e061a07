using System.Buffers.Binary;

namespace Platter.Tests.Interop.Formats;

/// <summary>Breaks the metadata of a good qcow2 image in one place, chosen at random: entries of tables, refcounts, offsets, the file's length.</summary>
internal static class MetadataBreaker
{
    /// <summary>Changes one piece of metadata that a walk from the header finds.</summary>
    /// <returns>The image, which may have another length.</returns>
    public static byte[] Break(byte[] image, Random random, out string said)
    {
        try
        {
            said = Break(image, random);
        }
        catch (ArgumentOutOfRangeException)
        {
            // An earlier change has hidden the way there.
            said = string.Empty;
        }

        return said.StartsWith("length ", StringComparison.Ordinal) ? Resize(image, said) : image;
    }

    private static string Break(byte[] image, Random random)
    {
        var clusterBits = (int)BinaryPrimitives.ReadUInt32BigEndian(image.AsSpan(20));
        var l1 = new List<long> { Read(image, 40) };
        var l1Size = new List<int> { (int)BinaryPrimitives.ReadUInt32BigEndian(image.AsSpan(36)) };
        var snapshots = Read(image, 64);
        var snapshotCount = BinaryPrimitives.ReadUInt32BigEndian(image.AsSpan(60));
        for (var i = 0; i < snapshotCount; i++)
        {
            l1.Add(Read(image, snapshots));
            l1Size.Add((int)BinaryPrimitives.ReadUInt32BigEndian(image.AsSpan((int)snapshots + 8)));
            var size = 40 + BinaryPrimitives.ReadUInt16BigEndian(image.AsSpan((int)snapshots + 12))
                + BinaryPrimitives.ReadUInt16BigEndian(image.AsSpan((int)snapshots + 14)) + (int)BinaryPrimitives.ReadUInt32BigEndian(image.AsSpan((int)snapshots + 36));
            snapshots += (size + 7) & ~7;
        }

        var table = random.Next(l1.Count);
        var l1Used = Enumerable.Range(0, l1Size[table]).Where(i => Read(image, l1[table] + (8 * i)) != 0).ToArray();
        var refcountTable = Read(image, 48);
        var kind = random.Next(20);
        long at;
        switch (kind)
        {
            case < 3 when l1Size[table] > 0:
                at = l1[table] + (8 * (random.Next(2) == 0 && l1Used.Length > 0 ? l1Used[random.Next(l1Used.Length)] : random.Next(l1Size[table])));
                return Change(image, at, clusterBits, random, $"L1 table {table}");
            case < 11 when l1Used.Length > 0:
                var l2 = Read(image, l1[table] + (8 * l1Used[random.Next(l1Used.Length)])) & 0x00fffffffffffe00;
                var entries = Enumerable.Range(0, 1 << (clusterBits - 3)).Where(i => l2 + (8 * i) + 8 <= image.Length && Read(image, l2 + (8 * i)) != 0).ToArray();
                at = l2 + (8 * (random.Next(4) > 0 && entries.Length > 0 ? entries[random.Next(entries.Length)] : random.Next(1 << (clusterBits - 3))));
                return Change(image, at, clusterBits, random, $"L2 table of L1 table {table}");
            case < 13:
                at = refcountTable + (8 * (random.Next(3) > 0 ? random.Next(3) : random.Next(1 << (clusterBits - 3))));
                return Change(image, at, clusterBits, random, "refcount table");
            case < 16:
                var block = Read(image, refcountTable + (8 * random.Next(2))) & ~511L;
                at = block + random.Next(Math.Min(1 << clusterBits, 4 * image.Length >> clusterBits));
                if (at < 0 || at >= image.Length)
                {
                    return string.Empty;
                }

                var value = (byte)(random.Next(2) == 0 ? random.Next(4) : random.Next(256));
                var before = image[at];
                image[at] = value;
                return $"refcount byte at 0x{at:x}: {before:x2} -> {value:x2}; ";
            case 16 when snapshotCount > 0:
                at = Read(image, 64);
                return random.Next(2) == 0
                    ? Change(image, at, clusterBits, random, "snapshot's L1 offset")
                    : Change(image, at + 8, clusterBits, random, "snapshot's L1 size, with what follows");
            case 17:
                // Bitmaps: extension 0x23852875 holds the directory's offset at 16; its first entry points to the table.
                var extension = image.AsSpan(0, 1 << Math.Min(clusterBits, 16)).IndexOf((ReadOnlySpan<byte>)[0x23, 0x85, 0x28, 0x75]);
                if (extension < 0)
                {
                    return string.Empty;
                }

                var directory = Read(image, extension + 24);
                at = random.Next(3) == 0 ? directory : Read(image, directory) + (8 * random.Next(3));
                return at >= 0 && at + 8 <= image.Length ? Change(image, at, clusterBits, random, "bitmap") : string.Empty;
            case 18:
                return random.Next(3) == 0
                    ? $"length {image.Length + random.Next(1 << (clusterBits + 2))}; "
                    : $"length {image.Length - random.Next(Math.Min(1 << (clusterBits + 3), Math.Max(image.Length - 1024, 1)))}; ";
            default:
                at = new[] { 36, 40, 48, 60, 64 }[random.Next(5)];
                return random.Next(8) == 0 ? Change(image, at, clusterBits, random, "header") : string.Empty;
        }
    }

    private static string Change(byte[] image, long at, int clusterBits, Random random, string what)
    {
        if (at < 0 || at + 8 > image.Length)
        {
            return string.Empty;
        }

        var before = (ulong)Read(image, at);
        var somewhere = (ulong)random.NextInt64(0, (image.Length >> clusterBits) + 3) << clusterBits;
        var value = random.Next(12) switch
        {
            0 or 1 => before ^ (1UL << 63),
            2 => before ^ (1UL << 62),
            3 => before ^ 1,
            4 => before ^ (1UL << random.Next(64)),
            5 => before + 512,
            6 => 0UL,
            7 or 8 => (before & 0xff00_0000_0000_01ff) | somewhere,
            9 => (1UL << 63) | somewhere,
            10 => (before & 0xff00_0000_0000_01ff) | ((ulong)random.NextInt64(0, 1L << 56) & ~((1UL << clusterBits) - 1)),
            _ => before ^ (ulong)random.NextInt64(),
        };
        BinaryPrimitives.WriteUInt64BigEndian(image.AsSpan((int)at), value);
        return $"{what} at 0x{at:x}: {before:x16} -> {value:x16}; ";
    }

    private static long Read(byte[] image, long at) =>
        at < 0 || at + 8 > image.Length ? 0 : BinaryPrimitives.ReadInt64BigEndian(image.AsSpan((int)at));

    private static byte[] Resize(byte[] image, string said)
    {
        Array.Resize(ref image, int.Parse(said["length ".Length..said.IndexOf(';')]));
        return image;
    }
}
