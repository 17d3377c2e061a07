using System.Diagnostics;
using Platter.Bench.Measuring;
using Platter.Bench.Output;

namespace Platter.Bench.Rows;

/// <summary>Lets nbdcopy read or write a whole disk of several servers over TLS, and takes throughput and the server's CPU time per byte.</summary>
/// <remarks>fio's engine cannot be told credentials. nbdcopy asks for one piece after the other, so many at a time. Its own work, decryption included, is in every figure, on the
/// same cores.</remarks>
/// <param name="Name">See <see cref="Benchmark"/>.</param>
/// <param name="Question">See <see cref="Benchmark"/>.</param>
/// <param name="Pattern">How it asks; one connection, hot.</param>
/// <param name="ByCertificates">Otherwise by pre-shared keys.</param>
internal sealed record NbdCopyBenchmark(string Name, string Question, AccessPattern Pattern, bool ByCertificates)
    : Benchmark(Name, Question, ["qemu-nbd", "nbdkit", "nbdcopy"])
{
    private sealed record Reading(double BytesPerSecond, double CpuPerByte);

    /// <inheritdoc/>
    public override IReadOnlyList<RowResult> Run(BenchContext bench)
    {
        var tls = NbdTls.Make(bench, ByCertificates);

        // Small requests take ten times as long.
        var source = Pattern.IsLarge ? bench.Inputs.NoiseRaw : bench.Inputs.SmallNoiseRaw;
        string Image(string server)
        {
            var copy = Path.Combine(bench.Scratch, $"disk-of-{server}");
            File.Copy(source, copy, overwrite: true);
            return copy;
        }

        NbdServer[] servers =
        [
            NbdServer.Platter(bench, "raw", Image("platter"), Pattern.Writes, tls),
            NbdServer.QemuNbd(bench, "raw", Image("qemu-nbd"), Pattern.Writes, tls),
            NbdServer.Nbdkit(bench, Image("nbdkit"), Pattern.Writes, tls),
        ];
        try
        {
            foreach (var server in servers)
            {
                Copy(bench, server, source);
            }

            var readings = Pairs.Run(bench.Options.Runs, [.. servers.Select(server => (Func<Reading>)(() => Copy(bench, server, source)))]);
            return [.. servers.Skip(1).Select((peer, i) => Compare(peer, servers[0], readings[i + 1], readings[0]))];
        }
        finally
        {
            foreach (var server in servers)
            {
                server.Dispose();
                File.Delete(Path.Combine(bench.Scratch, $"disk-of-{server.Label}"));
            }
        }
    }

    private RowResult Compare(NbdServer peer, NbdServer ours, Reading[] peerReadings, Reading[] ourReadings) => new(Name, peer.Label)
    {
        PeerFigure = Figures.Rate(Spread.Of(peerReadings.Select(r => r.BytesPerSecond)).Median, "B"),
        OurFigure = Figures.Rate(Spread.Of(ourReadings.Select(r => r.BytesPerSecond)).Median, "B"),
        Ratio = Pairs.Ratios(ourReadings, peerReadings, r => r.BytesPerSecond),
        CpuRatio = Pairs.Ratios(ourReadings, peerReadings, r => r.CpuPerByte).Median,
        PeerMemoryBytes = peer.Process.PeakMemoryBytes,
        OurMemoryBytes = ours.Process.PeakMemoryBytes,
    };

    private Reading Copy(BenchContext bench, NbdServer server, string source)
    {
        string[] ends = Pattern.Writes ? [source, server.Uri] : [server.Uri, "null:"];
        var cpuBefore = server.Process.CpuSoFar;
        var watch = Stopwatch.StartNew();
        bench.Tools.Run(
            "nbdcopy", ["--no-extents", "--connections=1", "--threads=1", $"--requests={Pattern.Depth}", $"--request-size={(Pattern.IsLarge ? 1 << 20 : 4096)}", .. ends]);
        var seconds = watch.Elapsed.TotalSeconds;
        var bytes = new FileInfo(source).Length;
        return new(bytes / seconds, (server.Process.CpuSoFar - cpuBefore).TotalSeconds / bytes);
    }
}
