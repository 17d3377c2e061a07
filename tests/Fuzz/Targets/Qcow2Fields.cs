using System.Globalization;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Finds the fields of a valid qcow2 image by walking it, knowing the specification and nothing of our reader.</summary>
internal static class Qcow2Fields
{
    /// <param name="bytes">A valid image.</param>
    /// <param name="maxEntries">Entries of a table that are listed; the rest are like them.</param>
    public static List<FuzzField> Find(SparseBytes bytes, int maxEntries = 24)
    {
        var fields = new List<FuzzField>();
        void Add(string name, long at, int size, ulong max = 0) => fields.Add(new(name, at, size, BigEndian: true, max));
        var version = bytes.U32Be(4);
        var clusterBits = (int)bytes.U32Be(20);
        var cluster = 1L << clusterBits;
        Add("magic", 0, 4);
        Add("version", 4, 4, 3);
        Add("backing_file_offset", 8, 8, (ulong)cluster);
        Add("backing_file_size", 16, 4, 1023);
        Add("cluster_bits", 20, 4, 21);
        Add("size", 24, 8, 1UL << (21 + clusterBits));
        Add("crypt_method", 32, 4, 2);
        Add("l1_size", 36, 4, 4 << 20);
        Add("l1_table_offset", 40, 8);
        Add("refcount_table_offset", 48, 8);
        Add("refcount_table_clusters", 56, 4, (8UL << 20) >> clusterBits);
        Add("nb_snapshots", 60, 4, 65536);
        Add("snapshots_offset", 64, 8);
        var extended = false;
        if (version >= 3)
        {
            Add("incompatible_features", 72, 8, 31);
            Add("compatible_features", 80, 8, 1);
            Add("autoclear_features", 88, 8, 3);
            Add("refcount_order", 96, 4, 6);
            Add("header_length", 100, 4, (ulong)cluster);
            Add("compression_type", 104, 1, 1);
            extended = (bytes.U64Be(72) & 16) != 0;
        }

        Extensions(bytes, cluster, version >= 3 ? bytes.U32Be(100) : 72, Add);
        Mapping(bytes, "", (long)bytes.U64Be(40), bytes.U32Be(36), extended, maxEntries, Add);
        Refcounts(bytes, cluster, Math.Min(maxEntries, 8), Add);
        Snapshots(bytes, extended, maxEntries, Add);
        return fields;
    }

    private static void Extensions(SparseBytes bytes, long cluster, long at, Action<string, long, int, ulong> add)
    {
        for (var count = 0; at + 8 <= cluster && count < 16; count++)
        {
            var type = bytes.U32Be(at);
            var length = bytes.U32Be(at + 4);
            add($"type of extension {count}", at, 4, 0);
            add($"length of extension {count}", at + 4, 4, (ulong)(cluster - at - 8));
            if (type == 0)
            {
                break;
            }

            if (type == 0x23852875)
            {
                add("nb_bitmaps", at + 8, 4, 65535);
                add("reserved", at + 12, 4, 0);
                add("bitmap_directory_size", at + 16, 8, 64 << 20);
                add("bitmap_directory_offset", at + 24, 8, 0);
                Bitmaps(bytes, (long)bytes.U64Be(at + 24), bytes.U32Be(at + 8), add);
            }
            else if (type == 0x0537be77)
            {
                add("crypto header offset", at + 8, 8, 0);
                add("crypto header length", at + 16, 8, 0);
                Luks(bytes, (long)bytes.U64Be(at + 8), add);
            }
            else
            {
                for (var i = 0; i < Math.Min(length, 8); i++)
                {
                    add($"byte {i} of extension {count}", at + 8 + i, 1, 0);
                }
            }

            at += 8 + ((length + 7) & ~7);
        }
    }

    private static void Bitmaps(SparseBytes bytes, long at, uint count, Action<string, long, int, ulong> add)
    {
        for (var i = 0; i < Math.Min(count, 8); i++)
        {
            add($"bitmap_table_offset of bitmap {i}", at, 8, 0);
            add($"bitmap_table_size of bitmap {i}", at + 8, 4, 8 << 20);
            add($"flags of bitmap {i}", at + 12, 4, 7);
            add($"type of bitmap {i}", at + 16, 1, 1);
            add($"granularity_bits of bitmap {i}", at + 17, 1, 31);
            add($"name_size of bitmap {i}", at + 18, 2, 1023);
            add($"extra_data_size of bitmap {i}", at + 20, 4, 0);
            var table = (long)bytes.U64Be(at);
            for (var entry = 0; entry < Math.Min(bytes.U32Be(at + 8), 4); entry++)
            {
                add($"entry {entry} of the table of bitmap {i}", table + (entry * 8), 8, 0);
            }

            at += (24 + bytes.U32Be(at + 20) + bytes.U16Be(at + 18) + 7) & ~7L;
        }
    }

    private static void Luks(SparseBytes bytes, long at, Action<string, long, int, ulong> add)
    {
        foreach (var (name, offset, size) in LuksFields.All)
        {
            add(name, at + offset, size, 0);
        }
    }

    private static void Mapping(SparseBytes bytes, string of, long l1, long entries, bool extended, int maxEntries, Action<string, long, int, ulong> add)
    {
        var l2Listed = 0;
        for (long i = 0; i < Math.Min(entries, maxEntries); i++)
        {
            var value = bytes.U64Be(l1 + (i * 8));
            add(string.Create(CultureInfo.InvariantCulture, $"L1 entry {i}{of}"), l1 + (i * 8), 8, 0x00ff_ffff_ffff_fe00);
            var l2 = (long)(value & 0x00ff_ffff_ffff_fe00);
            if (l2 == 0 || l2 >= bytes.Length || l2Listed++ >= 3)
            {
                continue;
            }

            for (var k = 0; k < maxEntries; k++)
            {
                add($"L2 word {k} of table {i}{of}", l2 + (k * 8), 8, extended && k % 2 == 1 ? 0 : 0x00ff_ffff_ffff_fe00UL);
            }
        }
    }

    private static void Refcounts(SparseBytes bytes, long cluster, int maxEntries, Action<string, long, int, ulong> add)
    {
        var table = (long)bytes.U64Be(48);
        for (var i = 0; i < Math.Min(bytes.U32Be(56) * cluster / 8, maxEntries); i++)
        {
            add($"refcount table entry {i}", table + (i * 8), 8, 0);
            var block = (long)bytes.U64Be(table + (i * 8));
            if (block == 0 || block >= bytes.Length)
            {
                continue;
            }

            for (var k = 0; k < maxEntries; k++)
            {
                add($"refcount word {k} of block {i}", block + (k * 8), 8, 0);
            }
        }
    }

    private static void Snapshots(SparseBytes bytes, bool extended, int maxEntries, Action<string, long, int, ulong> add)
    {
        var at = (long)bytes.U64Be(64);
        for (var i = 0; i < Math.Min(bytes.U32Be(60), 6); i++)
        {
            add($"l1_table_offset of snapshot {i}", at, 8, 0);
            add($"l1_size of snapshot {i}", at + 8, 4, 4 << 20);
            add($"id_str_size of snapshot {i}", at + 12, 2, 0);
            add($"name_size of snapshot {i}", at + 14, 2, 0);
            add($"date_sec of snapshot {i}", at + 16, 4, 0);
            add($"date_nsec of snapshot {i}", at + 20, 4, 999_999_999);
            add($"vm_clock_nsec of snapshot {i}", at + 24, 8, 0);
            add($"vm_state_size of snapshot {i}", at + 32, 4, 0);
            add($"extra_data_size of snapshot {i}", at + 36, 4, 1024);
            var extra = bytes.U32Be(at + 36);
            for (var k = 0; k + 8 <= extra && k < 24; k += 8)
            {
                add($"extra data {k} of snapshot {i}", at + 40 + k, 8, 0);
            }

            if (i < 2)
            {
                Mapping(bytes, $" of snapshot {i}", (long)bytes.U64Be(at), Math.Min(bytes.U32Be(at + 8), 4), extended, Math.Min(maxEntries, 4), add);
            }

            at += (40 + extra + bytes.U16Be(at + 12) + bytes.U16Be(at + 14) + 7) & ~7L;
        }
    }
}
