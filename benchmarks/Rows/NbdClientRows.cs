using Platter.Bench.Measuring;

namespace Platter.Bench.Rows;

/// <summary>The guest's disk copied from a peer's server into a raw file: our client against the peers' clients.</summary>
internal static class NbdClientRows
{
    public static Benchmark[] All { get; } =
    [
        Row("nbdkit", "How fast is a disk fetched from nbdkit?", ["nbdkit"], b => NbdServer.Nbdkit(b, b.Inputs.GuestRaw)),
        Row("qemu-nbd", "How fast is a disk fetched from qemu-nbd?", ["qemu-nbd"], b => NbdServer.QemuNbd(b, "raw", b.Inputs.GuestRaw)),
        Row("nbdkit-x509", "And over TLS with certificates from nbdkit?", ["nbdkit"], b => NbdServer.Nbdkit(b, b.Inputs.GuestRaw, tls: NbdTls.Make(b, byCertificates: true))),
        Row("nbdkit-psk", "And with a pre-shared key?", ["nbdkit"], b => NbdServer.Nbdkit(b, b.Inputs.GuestRaw, tls: NbdTls.Make(b, byCertificates: false))),
    ];

    private static CommandBenchmark Row(string name, string question, string[] needs, Func<BenchContext, NbdServer> start) =>
        new($"client/{name}", question, ["qemu-img", "nbdcopy", "mkfs.ext4", .. needs], bench =>
        {
            var server = start(bench);
            return new(
                [bench.Platter, "convert", "-O", "raw", server.Uri, bench.Target],
                new PeerCommand("qemu-img convert", [bench.Tools.Require("qemu-img"), "convert", "-O", "raw", .. server.ForQemuImg, bench.Target]),
                new PeerCommand("nbdcopy", [bench.Tools.Require("nbdcopy"), server.Uri, bench.Target]))
            {
                Target = bench.Target, Server = server,
            };
        });
}
