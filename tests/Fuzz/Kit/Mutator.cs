using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Breaks binary files: known fields to awkward values, and blind damage.</summary>
internal static class Mutator
{
    /// <summary>A few mutations, more often of fields than blind ones.</summary>
    public static void Mutate(SparseBytes bytes, IReadOnlyList<FuzzField> fields, Random random)
    {
        for (var count = 1 + (random.Next(3) * random.Next(3)); count > 0; count--)
        {
            if (fields.Count > 0 && random.Next(4) != 0)
            {
                MutateField(bytes, fields, random);
            }
            else
            {
                Damage(bytes, random);
            }
        }
    }

    private static void MutateField(SparseBytes bytes, IReadOnlyList<FuzzField> fields, Random random)
    {
        var field = fields[random.Next(fields.Count)];
        ulong value;
        switch (random.Next(8))
        {
            case 0:
                value = unchecked((ulong)random.NextInt64());
                break;
            case 1:
                // Somebody else's value: tables that share a cluster, a table that points to itself.
                value = fields[random.Next(fields.Count)].Get(bytes);
                break;
            case 2:
                value = field.Get(bytes) ^ (1UL << random.Next(8 * field.Size));
                break;
            case 3:
                value = (ulong)(random.NextInt64(Math.Max(1, bytes.Length)) & ~511L);
                break;
            default:
                var all = field.Interesting(bytes).ToArray();
                value = all[random.Next(all.Length)];
                break;
        }

        field.Set(bytes, value);
    }

    private static void Damage(SparseBytes bytes, Random random)
    {
        var length = bytes.Length;
        if (length == 0)
        {
            bytes.Write(0, [(byte)random.Next(256)]);
            return;
        }

        // Where the data are, most of the time: beyond them a sparse file is all zeros.
        var at = random.NextInt64(length);
        switch (random.Next(6))
        {
            case 0:
                bytes.FlipBit(at, random.Next(8));
                break;
            case 1:
                var noise = new byte[random.Next(1, 32)];
                random.NextBytes(noise);
                bytes.Write(at, noise.AsSpan(0, (int)Math.Min(noise.Length, length - at)));
                break;
            case 2:
                bytes.Write(random.NextInt64(length), bytes.Slice(at, (int)Math.Min(random.Next(1, 2048), length - at)));
                break;
            case 3:
                bytes.Zero(at, Math.Min(random.Next(1, 4096), length - at));
                break;
            case 4:
                bytes.SetLength(random.Next(3) == 0 ? at : Math.Min(at, random.Next(1, 8192)));
                break;
            default:
                bytes.SetLength(length + random.Next(1, 100_000));
                break;
        }
    }
}
