namespace Platter.Bench.Output;

/// <summary>One line that tells what figures were measured on; no names of machines.</summary>
internal static class Circumstances
{
    public static string Describe(BenchContext bench, string loadBefore)
    {
        string?[] peers =
        [
            bench.Tools.Version("qemu-img"), bench.Tools.Version("nbdkit"), bench.Tools.Version("nbdcopy"), bench.Tools.Version("fio"),
            bench.Tools.Version("mkfs.ext4", "-V")?.Replace("mkfs.ext4", "e2fsprogs", StringComparison.Ordinal),
        ];
        return string.Join(
            "; ",
            $"{DateTime.UtcNow:yyyy-MM-dd}",
            $"{Environment.ProcessorCount} cores ({Processor()}), {GC.GetGCMemoryInfo().TotalAvailableMemoryBytes >> 30} GiB, Linux {Kernel()}",
            string.Join(", ", peers.Where(p => p is not null)),
            $"{bench.Options.Runs} pairs (ten times as many where a run takes milliseconds)" + (bench.Options.Quick ? ", small images (--quick)" : string.Empty),
            $"targets {(bench.MemoryIsMemory ? "in memory (tmpfs)" : "on the disk")}",
            $"load before the run {loadBefore}") + ".";
    }

    public static string Load() => File.Exists("/proc/loadavg") ? File.ReadAllText("/proc/loadavg").Split(' ')[0] : "unknown";

    private static string Kernel() => string.Join('.', Environment.OSVersion.Version.ToString(3).Split('.').Take(2));

    private static string Processor() =>
        File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[1].Trim() ?? "unknown";
}
