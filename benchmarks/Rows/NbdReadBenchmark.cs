using System.Text.Json;
using Platter.Bench.Measuring;
using Platter.Bench.Output;

namespace Platter.Bench.Rows;

/// <summary>How a client reads.</summary>
/// <param name="BlockSize">As fio writes it: "4k", "1m".</param>
/// <param name="Depth">Requests in flight.</param>
/// <param name="IsCold">Whether the image is dropped from the page cache before each run.</param>
internal sealed record ReadPattern(string BlockSize, int Depth, bool IsCold = false)
{
    public bool IsLarge => BlockSize.EndsWith('m');
}

/// <summary>Lets fio read at random from servers that export one image, over one connection, and takes throughput and the server's CPU time.</summary>
/// <remarks>
/// All servers of a row run all the while, and are read from in turn. fio's own work is in every figure, on the same cores: the
/// ratio of the servers alone is larger than what is shown.
/// </remarks>
internal sealed record NbdReadBenchmark(string Name, string Question, string[] Needs, ReadPattern Pattern, Func<BenchContext, string> Image, Func<BenchContext, NbdServer[]> StartServers)
    : Benchmark(Name, Question, Needs)
{
    /// <summary>Targets for throughput by the peer's name.</summary>
    public required IReadOnlyDictionary<string, Target> Targets { get; init; }

    private sealed record Reading(double RequestsPerSecond, double BytesPerSecond, double CpuPerRequest);

    /// <inheritdoc/>
    public override IReadOnlyList<RowResult> Run(BenchContext bench)
    {
        var image = Image(bench);
        var servers = StartServers(bench); // ours first
        try
        {
            foreach (var server in servers)
            {
                Read(bench, server, image, milliseconds: 300);
            }

            var milliseconds = bench.Options.Quick ? 500 : 1200;
            var readings = Pairs.Run(bench.Options.Runs, [.. servers.Select(s => (Func<Reading>)(() => Read(bench, s, image, milliseconds)))]);
            return [.. servers.Skip(1).Select((peer, i) => Compare(peer, servers[0], readings[i + 1], readings[0]))];
        }
        finally
        {
            foreach (var server in servers)
            {
                server.Dispose();
            }
        }
    }

    private RowResult Compare(NbdServer peer, NbdServer ours, Reading[] peerReadings, Reading[] ourReadings) => new(Name, peer.Label)
    {
        PeerFigure = Figure(peerReadings),
        OurFigure = Figure(ourReadings),
        Ratio = Pairs.Ratios(ourReadings, peerReadings, r => r.RequestsPerSecond),
        CpuRatio = Pairs.Ratios(ourReadings, peerReadings, r => r.CpuPerRequest).Median,
        PeerMemoryBytes = peer.Process.PeakMemoryBytes,
        OurMemoryBytes = ours.Process.PeakMemoryBytes,
        Target = Targets.TryGetValue(peer.Label, out var target) ? target : null,
    };

    private string Figure(Reading[] readings) => Pattern.IsLarge
        ? Figures.Rate(Spread.Of(readings.Select(r => r.BytesPerSecond)).Median, "B")
        : Figures.Rate(Spread.Of(readings.Select(r => r.RequestsPerSecond)).Median, string.Empty);

    private Reading Read(BenchContext bench, NbdServer server, string image, int milliseconds)
    {
        if (Pattern.IsCold)
        {
            bench.Tools.Run("dd", $"if={image}", "iflag=nocache", "count=0", "status=none");
        }

        var output = Path.Combine(bench.Scratch, "fio.json");
        var cpuBefore = server.Process.CpuSoFar;
        bench.Tools.Run(
            "fio", "--name=read", "--ioengine=nbd", $"--uri={server.Uri}", "--rw=randread", $"--bs={Pattern.BlockSize}", $"--iodepth={Pattern.Depth}", "--thread",
            "--time_based", $"--runtime={milliseconds}ms", "--output-format=json", $"--output={output}");
        var cpu = server.Process.CpuSoFar - cpuBefore;
        var text = File.ReadAllText(output);
        using var json = JsonDocument.Parse(text[text.IndexOf('{', StringComparison.Ordinal)..]);
        var job = json.RootElement.GetProperty("jobs")[0];
        var read = job.GetProperty("read");
        if (job.GetProperty("error").GetInt32() != 0)
        {
            throw new BenchException($"fio met an error reading from {server.Label}");
        }

        var requests = read.GetProperty("total_ios").GetInt64();
        return new Reading(read.GetProperty("iops").GetDouble(), read.GetProperty("bw_bytes").GetDouble(), cpu.TotalSeconds / requests);
    }
}
