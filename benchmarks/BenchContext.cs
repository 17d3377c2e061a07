using Platter.Bench.Inputs;

namespace Platter.Bench;

/// <summary>What every benchmark gets.</summary>
internal sealed class BenchContext : IDisposable
{
    private const string Prefix = "platter-bench-";
    private const long RoomInMemory = 5L << 30;

    /// <param name="root">Of the repository.</param>
    /// <param name="options">What was asked for.</param>
    /// <param name="platter">The program that is measured.</param>
    public BenchContext(string root, BenchOptions options, string platter)
    {
        Options = options;
        Platter = platter;
        DiskFolder = Path.Combine(root, "artifacts", "bench");
        Directory.CreateDirectory(DiskFolder);
        const string memory = "/dev/shm";
        MemoryIsMemory = Directory.Exists(memory) && new DriveInfo(memory).AvailableFreeSpace >= RoomInMemory;
        var parent = MemoryIsMemory ? memory : Path.GetTempPath();
        RemoveLeftovers(parent);
        Scratch = Path.Combine(parent, Prefix + Environment.ProcessId);
        Directory.CreateDirectory(Scratch);
        Tools = new Tools(Scratch);
        Inputs = new InputImages(
            new InputCache(Path.Combine(DiskFolder, options.Quick ? "inputs-quick" : "inputs"), Tools.Version("qemu-img") ?? string.Empty), Tools, platter, options.Quick);
    }

    public BenchOptions Options { get; }

    /// <summary>The program that is measured.</summary>
    public string Platter { get; }

    public Tools Tools { get; }

    public InputImages Inputs { get; }

    /// <summary>A folder of this run; in memory (tmpfs), if there is room, so that no disk takes part in what is measured.</summary>
    public string Scratch { get; }

    public bool MemoryIsMemory { get; }

    /// <summary>A folder on the disk that also holds the input images.</summary>
    public string DiskFolder { get; }

    /// <summary>Where a program's error messages go while it is measured.</summary>
    public string ErrorFile => Path.Combine(Scratch, "errors");

    /// <summary>What is written by whatever is measured.</summary>
    public string Target => Path.Combine(Scratch, "target");

    /// <summary>The same on the disk.</summary>
    public string DiskTarget => Path.Combine(DiskFolder, "target");

    public void Dispose()
    {
        // Whoever is interrupted still writes for a moment. What is left after that goes with the next run.
        for (var tries = 0; tries < 50; tries++)
        {
            try
            {
                File.Delete(DiskTarget);
                if (Directory.Exists(Scratch))
                {
                    Directory.Delete(Scratch, recursive: true);
                }

                return;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                Thread.Sleep(20);
            }
        }
    }

    // A run that was killed could not tidy up, and what it left takes memory.
    private static void RemoveLeftovers(string parent)
    {
        foreach (var folder in Directory.EnumerateDirectories(parent, Prefix + "*"))
        {
            if (!Directory.Exists("/proc/" + Path.GetFileName(folder)[Prefix.Length..]))
            {
                Directory.Delete(folder, recursive: true);
            }
        }
    }
}
