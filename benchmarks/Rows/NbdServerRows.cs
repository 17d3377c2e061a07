using Platter.Bench.Measuring;

namespace Platter.Bench.Rows;

/// <summary>Random reads from <c>platter serve</c> and from the peers' servers: a disk of noise, every cluster allocated, one client.</summary>
internal static class NbdServerRows
{
    private static readonly ReadPattern Single = new("4k", 1), Deep = new("4k", 32), Large = new("1m", 8), Cold = new("4k", 32, IsCold: true);

    public static Benchmark[] All { get; } =
    [
        Raw("4k-qd1", "How long does one small read take (raw, hot)?", Single, 3, 2),
        Raw("4k-qd32", "How many small reads per second, 32 in flight (raw, hot)?", Deep, 2.4, 1.15),
        Raw("1m-qd8", "How much by large reads, 8 in flight (raw, hot)?", Large, 4, 2),
        Raw("4k-qd32-cold", "And small ones from the disk, not from memory (raw)?", Cold, 1, 1),
        Qcow2("4k-qd1", "How long does one small read take (qcow2, hot)?", Single, 3),
        Qcow2("4k-qd32", "How many small reads per second, 32 in flight (qcow2, hot)?", Deep, 2.4),
        Qcow2("1m-qd8", "How much by large reads, 8 in flight (qcow2, hot)?", Large, 4),
        Qcow2("4k-qd32-cold", "And small ones from the disk, not from memory (qcow2)?", Cold, 1),
    ];

    private static NbdReadBenchmark Raw(string name, string question, ReadPattern pattern, double qemuNbd, double nbdkit) =>
        new($"nbd/raw-{name}", question, ["qemu-nbd", "nbdkit", "fio"], pattern, b => b.Inputs.NoiseRaw, b =>
            [NbdServer.Platter(b, "raw", b.Inputs.NoiseRaw), NbdServer.QemuNbd(b, "raw", b.Inputs.NoiseRaw), NbdServer.Nbdkit(b, b.Inputs.NoiseRaw)])
        {
            Targets = new Dictionary<string, Target> { ["qemu-nbd"] = Target.NoLessThan(qemuNbd), ["nbdkit"] = Target.NoLessThan(nbdkit) },
        };

    private static NbdReadBenchmark Qcow2(string name, string question, ReadPattern pattern, double qemuNbd) =>
        new($"nbd/qcow2-{name}", question, ["qemu-nbd", "qemu-img", "fio"], pattern, b => b.Inputs.NoiseQcow2, b =>
            [NbdServer.Platter(b, "qcow2", b.Inputs.NoiseQcow2), NbdServer.QemuNbd(b, "qcow2", b.Inputs.NoiseQcow2)])
        {
            Targets = new Dictionary<string, Target> { ["qemu-nbd"] = Target.NoLessThan(qemuNbd) },
        };
}
