using Platter.Bench.Measuring;

namespace Platter.Bench.Rows;

/// <summary>Random reads from and writes to <c>platter serve</c> and the peers' servers: a disk of noise, every cluster allocated.</summary>
internal static class NbdServerRows
{
    private static readonly AccessPattern Single = new("4k", 1), Deep = new("4k", 32), Wide = new("4k", 32, Connections: 4), Large = new("1m", 8), Cold = new("4k", 32, IsCold: true);

    public static Benchmark[] All { get; } =
    [
        Raw("4k-qd1", "How long does one small read take (raw, hot)?", Single, 3, 2),
        Raw("4k-qd32", "How many small reads per second, 32 in flight (raw, hot)?", Deep, 2.4, 1.15),
        Raw("4k-qd32x4", "And over four connections?", Wide),
        Raw("1m-qd8", "How much by large reads, 8 in flight (raw, hot)?", Large, 4, 2),
        Raw("4k-qd32-cold", "And small ones from the disk, not from memory (raw)?", Cold, 1, 1),
        Raw("write-4k-qd1", "How long does one small write take (raw)?", Single with { Writes = true }),
        Raw("write-4k-qd32", "How many small writes per second, 32 in flight (raw)?", Deep with { Writes = true }, 1.4, 1.4),
        Raw("write-4k-qd32x4", "And over four connections?", Wide with { Writes = true }),
        Raw("write-1m-qd8", "How much by large writes, 8 in flight (raw)?", Large with { Writes = true }),
        Raw("nbdcopy", "How long does nbdcopy take to read a disk (raw, hot)?", AccessPattern.Copy),
        Raw("write-nbdcopy", "And to write one?", AccessPattern.Copy with { Writes = true }),
        Raw("4k-qd1x16", "Sixteen clients at once, one small read at a time each (raw)?", Single with { Connections = 16 }),
        Raw("4k-qd1x100", "A hundred?", Single with { Connections = 100 }),
        Qcow2("4k-qd1", "How long does one small read take (qcow2, hot)?", Single, 3),
        Qcow2("4k-qd32", "How many small reads per second, 32 in flight (qcow2, hot)?", Deep, 2.4),
        Qcow2("4k-qd32x4", "And over four connections (qcow2)?", Wide),
        Qcow2("1m-qd8", "How much by large reads, 8 in flight (qcow2, hot)?", Large, 4),
        Qcow2("4k-qd32-cold", "And small ones from the disk, not from memory (qcow2)?", Cold, 1),
        Qcow2("write-4k-qd32", "How many small writes per second, 32 in flight (qcow2)?", Deep with { Writes = true }, 1.4),
        Qcow2("nbdcopy", "How long does nbdcopy take to read a disk (qcow2, hot)?", AccessPattern.Copy),
        Qcow2("write-1m-qd8", "How much by large writes, 8 in flight (qcow2)?", Large with { Writes = true }),
        new NbdServerBenchmark("nbd/chain-4k-qd32", "Small reads through an empty overlay (qcow2 over qcow2)?", ["qemu-nbd", "qemu-img", "fio"], Deep, b => b.Inputs.Overlay, b =>
            [NbdServer.Platter(b, "qcow2", b.Inputs.Overlay), NbdServer.QemuNbd(b, "qcow2", b.Inputs.Overlay)]) { Targets = Targets(2.4, null) },
        .. Tls("x509", "certificates", byCertificates: true),
        .. Tls("psk", "a pre-shared key", byCertificates: false),
    ];

    private static NbdCopyBenchmark[] Tls(string name, string what, bool byCertificates) =>
    [
        new($"nbd/{name}-4k-qd32", $"How much by small reads over TLS with {what}, 32 in flight (raw, hot)?", Deep, byCertificates),
        new($"nbd/{name}-1m-qd8", $"By large ones, 8 in flight, with {what}?", Large, byCertificates),
        new($"nbd/{name}-write-4k-qd32", $"By small writes, 32 in flight, with {what}?", Deep with { Writes = true }, byCertificates),
        new($"nbd/{name}-write-1m-qd8", $"By large writes, 8 in flight, with {what}?", Large with { Writes = true }, byCertificates),
    ];

    private static NbdServerBenchmark Raw(string name, string question, AccessPattern pattern, double? qemuNbd = null, double? nbdkit = null) =>
        new($"nbd/raw-{name}", question, ["qemu-nbd", "nbdkit", pattern.IsCopy ? "nbdcopy" : "fio"], pattern, b => b.Inputs.NoiseRaw, b =>
            [
                NbdServer.Platter(b, "raw", ImageFor(b, b.Inputs.NoiseRaw, "platter", pattern), pattern.Writes),
                NbdServer.QemuNbd(b, "raw", ImageFor(b, b.Inputs.NoiseRaw, "qemu-nbd", pattern), pattern.Writes),
                NbdServer.Nbdkit(b, ImageFor(b, b.Inputs.NoiseRaw, "nbdkit", pattern), pattern.Writes),
                .. pattern is { IsCold: false, Connections: 1, IsCopy: false } ? [NbdServer.Idle(b, new FileInfo(b.Inputs.NoiseRaw).Length)] : Array.Empty<NbdServer>(),
            ]) { Targets = Targets(qemuNbd, nbdkit) };

    private static NbdServerBenchmark Qcow2(string name, string question, AccessPattern pattern, double? qemuNbd = null) =>
        new($"nbd/qcow2-{name}", question, ["qemu-nbd", "qemu-img", pattern.IsCopy ? "nbdcopy" : "fio"], pattern, b => b.Inputs.NoiseQcow2, b =>
            [
                NbdServer.Platter(b, "qcow2", ImageFor(b, b.Inputs.NoiseQcow2, "platter", pattern), pattern.Writes),
                NbdServer.QemuNbd(b, "qcow2", ImageFor(b, b.Inputs.NoiseQcow2, "qemu-nbd", pattern), pattern.Writes),
            ]) { Targets = Targets(qemuNbd, null) };

    // Who writes has a copy: the inputs are used again.
    private static string ImageFor(BenchContext bench, string image, string server, AccessPattern pattern)
    {
        if (!pattern.Writes)
        {
            return image;
        }

        var copy = Path.Combine(bench.Scratch, $"written-by-{server}");
        File.Copy(image, copy, overwrite: true);
        return copy;
    }

    private static Dictionary<string, Target> Targets(double? qemuNbd, double? nbdkit)
    {
        var targets = new Dictionary<string, Target>();
        if (qemuNbd is { } first)
        {
            targets["qemu-nbd"] = Target.NoLessThan(first);
        }

        if (nbdkit is { } second)
        {
            targets["nbdkit"] = Target.NoLessThan(second);
        }

        return targets;
    }
}
