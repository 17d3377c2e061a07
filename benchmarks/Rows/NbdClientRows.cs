using Platter.Bench.Measuring;

namespace Platter.Bench.Rows;

/// <summary>Our client against the peers' clients, on the same server: a disk fetched into a file or to nowhere, one brought there, one passed on, and small requests.</summary>
internal static class NbdClientRows
{
    private const int NoiseMegabytes = 512;

    // Prime to the size of the disk: all over it, in an order that no read-ahead knows.
    private const string Step = "1052672";

    public static Benchmark[] All { get; } =
    [
        Fetch("nbdkit", "How fast is a disk fetched from nbdkit?", ["nbdkit"], b => NbdServer.Nbdkit(b, b.Inputs.GuestRaw)),
        Fetch("qemu-nbd", "How fast is a disk fetched from qemu-nbd?", ["qemu-nbd"], b => NbdServer.QemuNbd(b, "raw", b.Inputs.GuestRaw)),
        Fetch("nbdkit-x509", "And over TLS with certificates from nbdkit?", ["nbdkit"], b => NbdServer.Nbdkit(b, b.Inputs.GuestRaw, tls: NbdTls.Make(b, byCertificates: true))),
        Fetch("nbdkit-psk", "And with a pre-shared key?", ["nbdkit"], b => NbdServer.Nbdkit(b, b.Inputs.GuestRaw, tls: NbdTls.Make(b, byCertificates: false))),
        Fetch("platter", "And from our own server?", [], b => NbdServer.Platter(b, "raw", b.Inputs.GuestRaw)),
        Drain("nbdkit", "How fast is it read and thrown away (nbd copy)?", ["nbdkit"], b => NbdServer.Nbdkit(b, b.Inputs.NoiseRaw)),
        Bring("memory", "How fast is a disk brought to a server that only keeps it in memory (nbdkit)?", ["nbdkit"], b => NbdServer.NbdkitMemory(b, (long)NoiseMegabytes << 20)),
        Bring("qemu-nbd", "And to a file behind qemu-nbd?", ["qemu-nbd"], b => NbdServer.QemuNbd(b, "raw", Empty(b), writable: true)),
        Bring("platter", "And behind our own server?", [], b => NbdServer.Platter(b, "raw", Empty(b), writable: true)),
        new CommandBenchmark("client/pass-on", "From one server to another (qemu-nbd to nbdkit's memory, nbd copy)?", ["nbdcopy", "qemu-img", "qemu-nbd", "nbdkit"], b =>
        {
            var (from, to) = (NbdServer.QemuNbd(b, "raw", b.Inputs.NoiseRaw), NbdServer.NbdkitMemory(b, (long)NoiseMegabytes << 20));
            return new([b.Platter, "nbd", "copy", from.Uri, to.Uri], NbdCopy(b, from.Uri, to.Uri), QemuImg(b, from.Uri, to.Uri)) { Servers = [from, to] };
        }),
        Small("4k-qd1", "How long does one small read take?", 1, 20_000),
        Small("4k-qd32", "How many small reads per second, 32 in flight?", 32, 60_000),
        Small("write-4k-qd32", "And small writes?", 32, 60_000, "-w"),
    ];

    private static CommandBenchmark Fetch(string name, string question, string[] needs, Func<BenchContext, NbdServer> start) =>
        new($"client/{name}", question, ["qemu-img", "nbdcopy", "mkfs.ext4", .. needs], bench =>
        {
            var server = start(bench);
            return new(
                [bench.Platter, "convert", "-O", "raw", server.Uri, bench.Target],
                new PeerCommand("qemu-img convert", [bench.Tools.Require("qemu-img"), "convert", "-O", "raw", .. server.ForQemuImg, bench.Target], Target.AtMost(0.9)),
                new PeerCommand("nbdcopy", [bench.Tools.Require("nbdcopy"), server.Uri, bench.Target], Target.AtMost(0.9)))
            {
                Target = bench.Target, Servers = [server],
            };
        });

    private static CommandBenchmark Drain(string name, string question, string[] needs, Func<BenchContext, NbdServer> start) =>
        new($"client/drain-{name}", question, ["nbdcopy", .. needs], bench =>
        {
            var server = start(bench);
            return new([bench.Platter, "nbd", "copy", server.Uri, "null:"], NbdCopy(bench, server.Uri, "null:")) { Servers = [server] };
        });

    private static CommandBenchmark Bring(string name, string question, string[] needs, Func<BenchContext, NbdServer> start) =>
        new($"client/write-{name}", question, ["qemu-img", "nbdcopy", .. needs], bench =>
        {
            var server = start(bench);
            return new(
                [bench.Platter, "convert", "-n", "-f", "raw", "-O", "raw", bench.Inputs.NoiseRaw, server.Uri], QemuImg(bench, bench.Inputs.NoiseRaw, server.Uri), NbdCopy(bench, bench.Inputs.NoiseRaw, server.Uri))
            {
                Servers = [server],
            };
        });

    private static CommandBenchmark Small(string name, string question, int depth, int count, params string[] more) =>
        new($"client/{name}", question, ["qemu-img", "nbdkit"], bench =>
        {
            var server = NbdServer.NbdkitMemory(bench, (long)NoiseMegabytes << 20);
            string[] how = ["bench", "-f", "raw", "-t", "none", "-d", $"{depth}", "-c", $"{count}", "-s", "4096", "-S", Step, .. more, server.Uri];
            return new([bench.Platter, .. how], new PeerCommand("qemu-img bench", [bench.Tools.Require("qemu-img"), .. how])) { Servers = [server] };
        });

    // The peer flushes only when it is told to; ours always does, as qemu-img does.
    private static PeerCommand NbdCopy(BenchContext bench, string from, string to) => new("nbdcopy", [bench.Tools.Require("nbdcopy"), "--flush", from, to]);

    private static PeerCommand QemuImg(BenchContext bench, string from, string to) =>
        new("qemu-img convert", [bench.Tools.Require("qemu-img"), "convert", "-n", "-f", "raw", "-O", "raw", from, to]);

    private static string Empty(BenchContext bench)
    {
        var path = Path.Combine(bench.Scratch, "brought.raw");
        using var file = File.Create(path);
        file.SetLength((long)NoiseMegabytes << 20);
        return path;
    }
}
