using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Platter.Bench.Measuring;
using Platter.Bench.Output;

namespace Platter.Bench.Rows;

/// <summary>How clients read or write.</summary>
/// <param name="BlockSize">As fio writes it: "4k", "1m".</param>
/// <param name="Depth">Requests in flight, of each connection.</param>
/// <param name="IsCold">Whether the image is dropped from the page cache before each run.</param>
/// <param name="Connections">Clients at once.</param>
/// <param name="Writes">Whether they write.</param>
/// <param name="IsCopy">Whether nbdcopy copies the whole disk, as it likes to, instead of fio; block size and depth say nothing then.</param>
internal sealed record AccessPattern(string BlockSize, int Depth, bool IsCold = false, int Connections = 1, bool Writes = false, bool IsCopy = false)
{
    public static AccessPattern Copy { get; } = new(string.Empty, 0, IsCopy: true);

    public bool IsLarge => IsCopy || BlockSize.EndsWith('m');
}

/// <summary>Lets fio read or write at random, or nbdcopy all of it, on servers that export one image (each its own copy, if it is written to), and takes throughput and the server's CPU time.</summary>
/// <remarks>
/// All servers of a row run all the while, and are read from in turn. The client's own work is in every figure, on the same cores: the
/// ratio of the servers alone is larger than what is shown.
/// </remarks>
internal sealed record NbdServerBenchmark(string Name, string Question, string[] Needs, AccessPattern Pattern, Func<BenchContext, string> Image, Func<BenchContext, NbdServer[]> StartServers)
    : Benchmark(Name, Question, Needs)
{
    /// <summary>Targets for throughput by the peer's name.</summary>
    public required IReadOnlyDictionary<string, Target> Targets { get; init; }

    // Fairness: what the slowest client got, as a share of what the middle one got.
    private sealed record Reading(double RequestsPerSecond, double BytesPerSecond, double CpuPerRequest, double Fairness);

    /// <inheritdoc/>
    public override IReadOnlyList<RowResult> Run(BenchContext bench)
    {
        var image = Image(bench);
        var servers = StartServers(bench); // ours first
        try
        {
            foreach (var server in servers)
            {
                Access(bench, server, image, milliseconds: 300);
            }

            var milliseconds = bench.Options.Quick ? 500 : 1200;
            var readings = Pairs.Run(bench.Options.Runs, [.. servers.Select(s => (Func<Reading>)(() => Access(bench, s, image, milliseconds)))]);
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

    private string Figure(Reading[] readings)
    {
        var rate = Pattern.IsLarge
            ? Figures.Rate(Spread.Of(readings.Select(r => r.BytesPerSecond)).Median, "B")
            : Figures.Rate(Spread.Of(readings.Select(r => r.RequestsPerSecond)).Median, string.Empty);
        return Pattern.Connections == 1
            ? rate
            : string.Create(CultureInfo.InvariantCulture, $"{rate}, slowest client {Spread.Of(readings.Select(r => r.Fairness)).Median:0.00}");
    }

    private Reading Copy(BenchContext bench, NbdServer server, string image, TimeSpan cpuBefore)
    {
        const long Request = 256 << 10;
        var watch = Stopwatch.StartNew();
        bench.Tools.Run("nbdcopy", Pattern.Writes ? ["--destination-is-zero", image, server.Uri] : [server.Uri, "null:"]);
        var (seconds, requests) = (watch.Elapsed.TotalSeconds, new FileInfo(image).Length / Request);
        return new Reading(requests / seconds, requests * Request / seconds, (server.Process.CpuSoFar - cpuBefore).TotalSeconds / requests, 1);
    }

    private Reading Access(BenchContext bench, NbdServer server, string image, int milliseconds)
    {
        if (Pattern.IsCold)
        {
            bench.Tools.Run("dd", $"if={image}", "iflag=nocache", "count=0", "status=none");
        }

        var cpuBefore = server.Process.CpuSoFar;
        if (Pattern.IsCopy)
        {
            return Copy(bench, server, image, cpuBefore);
        }

        var output = Path.Combine(bench.Scratch, "fio.json");
        bench.Tools.Run(
            "fio", "--name=access", "--ioengine=nbd", $"--uri={server.Uri}", Pattern.Writes ? "--rw=randwrite" : "--rw=randread", $"--bs={Pattern.BlockSize}", $"--iodepth={Pattern.Depth}", "--thread",
            $"--numjobs={Pattern.Connections}", "--time_based", $"--runtime={milliseconds}ms", "--output-format=json", $"--output={output}");
        var cpu = server.Process.CpuSoFar - cpuBefore;
        var text = File.ReadAllText(output);
        using var json = JsonDocument.Parse(text[text.IndexOf('{', StringComparison.Ordinal)..]);
        var clients = json.RootElement.GetProperty("jobs").EnumerateArray().ToArray();
        if (clients.Any(client => client.GetProperty("error").GetInt32() != 0))
        {
            throw new BenchException($"fio met an error from {server.Label}");
        }

        var figures = clients.Select(client => client.GetProperty(Pattern.Writes ? "write" : "read")).ToArray();
        var shares = Spread.Of(figures.Select(f => f.GetProperty("iops").GetDouble()));
        return new Reading(
            figures.Sum(f => f.GetProperty("iops").GetDouble()), figures.Sum(f => f.GetProperty("bw_bytes").GetDouble()),
            cpu.TotalSeconds / figures.Sum(f => f.GetProperty("total_ios").GetInt64()), shares.Min / shares.Median);
    }
}
