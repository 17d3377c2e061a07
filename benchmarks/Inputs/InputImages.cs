namespace Platter.Bench.Inputs;

/// <summary>The images that are measured; each is made when first asked for, by the peer wherever it can make it.</summary>
internal sealed class InputImages(InputCache cache, Tools tools, string platter, bool quick)
{
    private const long MiB = 1024 * 1024;
    private const int Seed = 20_240_229;

    public const string Password = "correct horse";

    public long GuestSize => (quick ? 256 : 1536) * MiB;

    /// <summary>A raw disk with an ext4 file system, three fifths of it files.</summary>
    public string GuestRaw => cache.Get("guest.raw", path =>
    {
        var tree = path + ".tree";
        Directory.CreateDirectory(tree);
        new GuestFiles(Seed).WriteTree(tree, GuestSize * 3 / 5);
        using (var file = File.Create(path))
        {
            file.SetLength(GuestSize);
        }

        // mke2fs takes the time of everything it writes itself from this variable.
        tools.Run("env", "E2FSPROGS_FAKE_TIME=1700000000", tools.Require("mkfs.ext4"), "-q", "-F", "-d", tree, "-L", "guest", "-U", "6c8f6a0a-58c6-4d1c-9d4f-0f8a5d7c3b21",
            "-E", "hash_seed=2f1d6c52-0a43-4b0e-9f7e-5b8c1d2e3f40,lazy_itable_init=0,lazy_journal_init=0,nodiscard", path);
        Directory.Delete(tree, recursive: true);
    });

    public string GuestQcow2 => Converted("guest.qcow2", "qcow2");

    public string GuestZlib => Converted("guest-zlib.qcow2", "qcow2", "-c", "-W", "-m", "16");

    public string GuestZstd => Converted("guest-zstd.qcow2", "qcow2", "-c", "-W", "-m", "16", "-o", "compression_type=zstd");

    public string GuestHds => Converted("guest.hds", "parallels");

    /// <summary>The guest's disk as LUKS qcow2 (AES-256-XTS, the peer's default); opened with <see cref="Password"/>. The key slot is made cheap to open.</summary>
    public string GuestLuks => cache.Get("guest-luks.qcow2", path => Encrypted(
        "convert", "--object", $"secret,id=s,data={Password}", "-O", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", GuestRaw, path));

    /// <summary>An empty one of that kind.</summary>
    public string EmptyLuks => cache.Get("empty-luks.qcow2", path => Encrypted(
        "create", "-q", "-f", "qcow2", "--object", $"secret,id=s,data={Password}", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", path, $"{GuestSize}"));

    /// <summary>The top of a chain of ten images: the guest's disk and nine overlays with some hundred writes each.</summary>
    public string Chain => Path.Combine(cache.Get("chain", path =>
    {
        Directory.CreateDirectory(path);
        tools.Run("qemu-img", "convert", "-O", "qcow2", GuestRaw, Path.Combine(path, "layer0.qcow2"));
        var random = new Random(Seed);
        for (var layer = 1; layer < 10; layer++)
        {
            var top = Path.Combine(path, $"layer{layer}.qcow2");
            tools.Run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", $"layer{layer - 1}.qcow2", top);
            var commands = top + ".commands";
            File.WriteAllLines(commands, Enumerable.Range(0, quick ? 50 : 250).Select(_ =>
            {
                var length = 4096L << random.Next(8); // 4 KiB to 512 KiB
                return $"write -q -P {random.Next(1, 256)} {random.NextInt64((GuestSize - length) / 4096) * 4096} {length}";
            }));
            tools.RunWithInput(commands, "qemu-io", "-t", "unsafe", "-f", "qcow2", top);
            File.Delete(commands);
        }
    }), "layer9.qcow2");

    /// <summary>1 TiB with 200 000 clusters in use, no two side by side.</summary>
    public string Large => cache.Get("large.qcow2", path => SparseQcow2.Write(path, 1L << 40, 200_000, Seed));

    /// <summary>The same with refcounts of 0 where there are references.</summary>
    public string LargeDamaged => cache.Get("large-damaged.qcow2", path => SparseQcow2.Write(path, 1L << 40, 200_000, Seed, lostRefcounts: 2000));

    /// <summary>A raw disk full of noise, every byte allocated.</summary>
    public string NoiseRaw => cache.Get("noise.raw", path => WriteNoise(path, NoiseSize));

    /// <summary>A quarter of it.</summary>
    public string SmallNoiseRaw => cache.Get("noise-small.raw", path => WriteNoise(path, NoiseSize / 4));

    public string NoiseQcow2 => cache.Get("noise.qcow2", path => tools.Run("qemu-img", "convert", "-t", "writeback", "-O", "qcow2", NoiseRaw, path));

    /// <summary>An empty disk.</summary>
    public string Empty => cache.Get("empty.qcow2", path => tools.Run("qemu-img", "create", "-q", "-f", "qcow2", path, $"{NoiseSize}"));

    /// <summary>An empty Parallels image.</summary>
    public string EmptyHds => cache.Get("empty.hds", path => tools.Run("qemu-img", "create", "-q", "-f", "parallels", path, $"{NoiseSize}"));

    /// <summary>An empty image over the noise.</summary>
    public string Overlay => cache.Get("overlay.qcow2", path => tools.Run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", NoiseQcow2, path));

    /// <summary>The noise as one.</summary>
    public string NoiseHds => cache.Get("noise.hds", path => tools.Run("qemu-img", "convert", "-O", "parallels", NoiseRaw, path));

    /// <summary>A bundle of 4 GiB with ten snapshots, each with a hundred clusters of its own. No peer makes such a thing.</summary>
    public string Bundle => cache.Get("bundle.hdd", path =>
    {
        tools.Run(platter, "create", "-q", "-f", "parallels-bundle", path, $"{BundleSize}");
        foreach (var (round, writes) in BundleWrites.Chunk(BundleWrites.Count / 11).Take(11).Index())
        {
            var commands = path + ".commands";
            File.WriteAllLines(commands, writes);
            tools.RunWithInput(commands, platter, "io", "-f", "parallels-bundle", path);
            File.Delete(commands);
            if (round < 10)
            {
                tools.Run(platter, "snapshot", "-c", $"snapshot {round + 1}", path);
            }
        }
    });

    /// <summary>A raw disk with the bytes of all its images.</summary>
    public string BundleBytes => cache.Get("bundle-bytes.raw", path =>
    {
        tools.Run(platter, "create", "-q", "-f", "raw", path, $"{BundleSize}");
        var commands = path + ".commands";
        File.WriteAllLines(commands, BundleWrites);
        tools.RunWithInput(commands, platter, "io", "-f", "raw", path);
        File.Delete(commands);
    });

    private long BundleSize => (quick ? 1024 : 4096) * MiB;

    // Clusters all over the disk, each once.
    private IReadOnlyList<string> BundleWrites
    {
        get
        {
            var places = Enumerable.Range(0, (int)(BundleSize / MiB)).ToArray();
            new Random(Seed).Shuffle(places);
            return [.. places.Take(quick ? 275 : 1100).Select(place => $"write -q -P {(place % 255) + 1} {place}M 1M")];
        }
    }

    public long NoiseSize => (quick ? 128 : 512) * MiB;

    // The peer measures the machine for the key slot and now and then finds its clock too coarse.
    private void Encrypted(params string[] arguments)
    {
        for (var tries = 1; ; tries++)
        {
            try
            {
                tools.Run("qemu-img", arguments);
                return;
            }
            catch (BenchException e) when (tries < 20 && e.Message.Contains("accurate CPU usage", StringComparison.Ordinal))
            {
            }
        }
    }

    private static void WriteNoise(string path, long size)
    {
        var random = new Random(Seed);
        var piece = new byte[MiB];
        using var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, 0);
        for (long at = 0; at < size; at += piece.Length)
        {
            random.NextBytes(piece);
            file.Write(piece);
        }

        file.Flush(flushToDisk: true); // so that its pages can be dropped from the cache
    }

    private string Converted(string name, string format, params string[] more) =>
        cache.Get(name, path => tools.Run("qemu-img", ["convert", "-O", format, .. more, GuestRaw, path]));
}
