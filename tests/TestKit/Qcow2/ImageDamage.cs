namespace Platter.TestKit;

/// <summary>Damage that a repair mends and that the guest does not see: refcounts, COPIED flags, refcount blocks that are lost, marks in the header.</summary>
public static class ImageDamage
{
    private const ulong Copied = 1UL << 63;

    /// <summary>What a cut may leave of lazy refcounts: they are too low or too high, and the image says so.</summary>
    public static void MakeDirty(Qcow2Image image, Random random)
    {
        ChangeRefcounts(image, random);
        image.Set(Qcow2Field.IncompatibleFeatures, image.Get(Qcow2Field.IncompatibleFeatures) | 1);
    }

    /// <summary>Some of everything.</summary>
    public static void Damage(Qcow2Image image, Random random)
    {
        var isV3 = image.Get(Qcow2Field.Version) >= 3;
        ChangeRefcounts(image, random);
        if (random.Next(3) == 0)
        {
            image.Bytes.PutU64Be(image.RefcountTableAt, random.Next(2) == 0 ? 0 : 1UL << 40);
        }

        foreach (var table in image.L2TableAt.Keys)
        {
            for (var i = random.Next(4); i > 0; i--)
            {
                var cluster = (table * image.L2Entries) + random.Next((int)Math.Min(image.L2Entries, 1000));
                var entry = image.L2(cluster);
                if (entry << 2 != 0 && (entry >> 62 & 1) == 0 && (entry & 0x00ff_ffff_ffff_fe00) != 0 && image.DataFile is null)
                {
                    image.SetL2(cluster, entry ^ Copied);
                }
            }
        }

        if (isV3 && random.Next(2) == 0)
        {
            image.Set(Qcow2Field.IncompatibleFeatures, image.Get(Qcow2Field.IncompatibleFeatures) | (uint)random.Next(1, 4));
        }
    }

    private static void ChangeRefcounts(Qcow2Image image, Random random)
    {
        var clusters = (int)(image.Bytes.Length >> image.ClusterBits);
        for (var i = random.Next(1, 12); i > 0; i--)
        {
            image.SetRefcount((long)random.Next(clusters) << image.ClusterBits, (ulong)random.Next(2));
        }
    }
}
