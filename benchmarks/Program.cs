using System.Runtime.InteropServices;
using Platter.Bench;
using Platter.Bench.Measuring;
using Platter.Bench.Output;
using Platter.Bench.Rows;

// Usage: bench ROOT PLATTER [options]; ./bench at the root of the repository gives the first two.
try
{
    var options = BenchOptions.Parse(args[2..]);
    if (options.Help)
    {
        Console.WriteLine(BenchOptions.Usage);
        return 0;
    }

    if (options.Names.FirstOrDefault(n => !RowList.All.Any(b => BenchOptions.NamesRow(n, b.Name))) is { } unknown)
    {
        throw new BenchException($"no row is called {unknown}; see --list");
    }

    Benchmark[] wanted = [.. RowList.All.Where(b => options.Wants(b.Name))];
    if (options.List)
    {
        foreach (var benchmark in wanted)
        {
            Console.WriteLine($"{benchmark.Name,-22}  {benchmark.Question}");
        }

        return 0;
    }

    return Run(args[0], options, options.Platter ?? args[1], wanted);
}
catch (BenchException e)
{
    Console.Error.WriteLine($"bench: {e.Message}");
    return 2;
}

static int Run(string root, BenchOptions options, string platter, Benchmark[] wanted)
{
    using var bench = new BenchContext(root, options, platter);

    // Whatever ends us ends what we started, too.
    using var interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, Abandon);
    using var terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Abandon);
    var circumstances = Circumstances.Describe(bench, Circumstances.Load());
    Console.WriteLine(circumstances);
    Console.WriteLine();
    Console.WriteLine(ResultTable.TerminalHeader);
    var rows = new List<RowResult>();
    foreach (var benchmark in wanted)
    {
        var before = MachineLoad.Now();
        var results = RunOne(bench, benchmark);
        var others = MachineLoad.Now().OthersSince(before);
        foreach (var result in results)
        {
            var row = result with { OthersShare = others };
            Console.WriteLine(ResultTable.TerminalLine(row));
            rows.Add(row);
        }
    }

    Console.WriteLine();
    Console.WriteLine("Ratios are ours / the peer's; of times less is better, of throughput (per second) more. CPU is a ratio, too: of time, or of time per request.");
    Console.WriteLine("Others: CPU time that other processes took meanwhile, of all cores; from a tenth on, wall ratios say little.");
    var judged = rows.Where(r => r.Missing is null && r.Target is not null).ToArray();
    Console.WriteLine(
        $"{judged.Count(r => r.Verdict == "met")} of {judged.Length} targets met, {rows.Count(r => r.Missing is not null && !r.Failed)} skipped, {rows.Count(r => r.Failed)} failed");
    if (options.Write ?? (options.Names.Count == 0 && !options.Quick))
    {
        BenchmarkPage.Write(Path.Combine(root, "docs", "benchmarks.md"), circumstances, rows);
        Console.WriteLine("written: docs/benchmarks.md");
    }

    return rows.Any(r => r.Failed) ? 1 : 0;

    void Abandon(PosixSignalContext context)
    {
        ChildProcess.EndAll();
        bench.Dispose();
    }
}

static IReadOnlyList<RowResult> RunOne(BenchContext bench, Benchmark benchmark)
{
    if (benchmark.Needs.FirstOrDefault(tool => Tools.Find(tool) is null) is { } missing)
    {
        return [new RowResult(benchmark.Name, string.Empty) { Missing = $"{missing} is not installed" }];
    }

    try
    {
        return benchmark.Run(bench);
    }
    catch (BenchException e)
    {
        return [new RowResult(benchmark.Name, string.Empty) { Missing = e.Message, Failed = true }];
    }
}
