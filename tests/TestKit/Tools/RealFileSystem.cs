using System.Text;

namespace Platter.TestKit;

/// <summary>Raw disks that hold a real file system over a generated tree: content as images have it in life.</summary>
public static class RealFileSystem
{
    /// <summary>Makes a raw disk with an ext4 file system. Skips the test if <c>mkfs.ext4</c> is not installed.</summary>
    /// <param name="path">The raw file to make.</param>
    /// <param name="sizeBytes">Size of the disk in bytes; about a third of it is filled with files.</param>
    /// <param name="seed">Chooses names, sizes and content of the files.</param>
    public static void MakeExt4(string path, long sizeBytes, int seed)
    {
        ToolRunner.RequireOrSkip("mkfs.ext4");
        using var tree = new TempFolder("tree");
        MakeTree(tree.Path, sizeBytes / 3, seed);
        MakeExt4From(path, sizeBytes, tree.Path);
    }

    /// <summary>Makes a raw disk with an ext4 file system that holds a folder's content; the same bytes each time, as far as mkfs can.</summary>
    public static void MakeExt4From(string path, long sizeBytes, string tree)
    {
        using (var file = File.Create(path))
        {
            file.SetLength(sizeBytes);
        }

        ToolRunner.Run(new ToolCommand(
            "mkfs.ext4", "-q", "-F", "-d", tree, "-L", "platter", "-U", "6c8f6a0a-58c6-4d1c-9d4f-0f8a5d7c3b21",
            "-E", "hash_seed=2f1d6c52-0a43-4b0e-9f7e-5b8c1d2e3f40,lazy_itable_init=0,lazy_journal_init=0,nodiscard", path)
        {
            // mke2fs takes the time of everything it writes itself from here.
            Environment = new Dictionary<string, string?> { ["E2FSPROGS_FAKE_TIME"] = "1700000000" },
        }).Expect();
    }

    /// <summary>Makes folders and files of all kinds: text, noise, zeros, empty, sparse; about <paramref name="totalBytes"/> in sum.</summary>
    public static void MakeTree(string root, long totalBytes, int seed)
    {
        var random = new Random(seed);
        var folders = new List<string> { root };
        for (var i = 0; i < 8; i++)
        {
            var folder = Path.Combine(folders[random.Next(folders.Count)], $"dir{i}");
            Directory.CreateDirectory(folder);
            folders.Add(folder);
        }

        long done = 0;
        for (var i = 0; done < totalBytes; i++)
        {
            var length = (int)Math.Min(totalBytes - done, 1L << random.Next(6, 20));
            var content = (i % 4) switch
            {
                0 => Encoding.ASCII.GetBytes(string.Join('\n', Enumerable.Range(0, (length / 16) + 1).Select(n => $"line {n} of {i} {seed}"))),
                1 => TestContent.MakeCompressible(seed + i, length),
                2 => TestContent.Make(seed, done, length),
                _ => new byte[length],
            };
            var path = Path.Combine(folders[random.Next(folders.Count)], $"file{i}");
            File.WriteAllBytes(path, content.AsSpan(0, Math.Min(length, content.Length)));
            File.SetLastWriteTimeUtc(path, DateTime.UnixEpoch.AddSeconds(1_700_000_000));
            done += length;
        }
    }
}
