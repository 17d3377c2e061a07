using System.Security.Cryptography;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Finds the fields of a valid Parallels image by walking it, knowing the specification and nothing of our reader.</summary>
internal static class ParallelsFields
{
    public static List<FuzzField> Find(SparseBytes bytes, int maxEntries = 64)
    {
        var fields = new List<FuzzField>();
        void Add(string name, long at, int size, ulong max = 0) => fields.Add(new(name, at, size, BigEndian: false, max));
        var entries = bytes.U32Le(32);
        Add("magic", 0, 8);
        Add("magic, second half", 8, 8);
        Add("version", 16, 4, 2);
        Add("heads", 20, 4);
        Add("cylinders", 24, 4);
        Add("tracks", 28, 4, int.MaxValue / 513);
        Add("nb_bat_entries", 32, 4, (ulong)Math.Min(int.MaxValue / 4, (bytes.Length - 64) / 4));
        Add("nb_sectors", 36, 8, (ulong)(long.MaxValue / 512));
        Add("in_use", 44, 4);
        Add("data_off", 48, 4);
        Add("flags", 52, 4, 3);
        Add("ext_off", 56, 8, (ulong)(bytes.Length / 512));
        for (var i = 0; i < Math.Min(entries, maxEntries); i++)
        {
            Add($"BAT entry {i}", 64 + (i * 4), 4, (ulong)(bytes.Length / 512));
        }

        var extension = (long)bytes.U64Le(56) * 512;
        if (extension != 0)
        {
            Extension(bytes, extension, Add);
        }

        return fields;
    }

    /// <summary>Makes the Format Extension's checksum right again after a mutation, so that what lies behind it is looked at.</summary>
    public static void FixChecksum(SparseBytes bytes)
    {
        var at = (long)(bytes.U64Le(56) & 0xffff_ffff) * 512;
        var length = (long)bytes.U32Le(28) * 512;
        if (at > 0 && length is > 24 and < 4 << 20 && at + length <= bytes.Length)
        {
            bytes.Write(at + 8, MD5.HashData(bytes.Slice(at + 24, (int)length - 24)));
        }
    }

    private static void Extension(SparseBytes bytes, long at, Action<string, long, int, ulong> add)
    {
        add("extension magic", at, 8, 0);
        add("m_CheckSum", at + 8, 8, 0);
        at += 24;
        for (var i = 0; i < 8; i++)
        {
            var magic = bytes.U64Le(at);
            var size = bytes.U32Le(at + 16);
            add($"magic of feature {i}", at, 8, 0);
            add($"flags of feature {i}", at + 8, 8, 3);
            add($"data_size of feature {i}", at + 16, 4, 0);
            if (magic == 0)
            {
                break;
            }

            if (magic == 0x20385FAE252CB34A)
            {
                add($"size of bitmap {i}", at + 24, 8, 0);
                add($"granularity of bitmap {i}", at + 48, 4, 1 << 22);
                add($"l1_size of bitmap {i}", at + 52, 4, 0);
                for (var k = 0; k < Math.Min(bytes.U32Le(at + 52), 8); k++)
                {
                    add($"L1 entry {k} of bitmap {i}", at + 56 + (8 * k), 8, 1);
                }
            }

            at += (24 + size + 7) & ~7L;
        }
    }
}
