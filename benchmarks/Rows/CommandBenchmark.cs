using Platter.Bench.Measuring;
using Platter.Bench.Output;

namespace Platter.Bench.Rows;

/// <summary>A peer's command line.</summary>
/// <param name="Label">How the table calls it.</param>
/// <param name="Command">Program and arguments.</param>
/// <param name="Target">For ours / this one's wall time.</param>
internal sealed record PeerCommand(string Label, string[] Command, Target? Target = null);

/// <summary>Command lines that do the same work.</summary>
internal sealed record CommandSet(string[] Ours, params PeerCommand[] Peers) : IDisposable
{
    /// <summary>The file they write, or null; each run starts without it.</summary>
    public string? Target { get; init; }

    /// <summary>What <see cref="Target"/> is a copy of when a run starts: they change it, each in its own way, so that results are not compared. Null when they make it.</summary>
    public string? Source { get; init; }

    /// <summary>Whether two results are as good as each other; null when they must be the same byte for byte.</summary>
    public Func<string, string, bool>? AreEqual { get; init; }

    /// <summary>Servers they use, ended after the last run.</summary>
    public NbdServer[] Servers { get; init; } = [];

    public void Dispose()
    {
        foreach (var server in Servers)
        {
            server.Dispose();
        }
    }
}

/// <summary>Times programs that do their work and end: wall and CPU time, peak memory.</summary>
/// <remarks>
/// Each side runs once to warm the page cache and to have its memory looked at; what the sides wrote then must be equal, byte for byte. Then they run in
/// turn. The target is deleted before each run, and free memory is made equally fresh (<see cref="FreshPages"/>).
/// </remarks>
internal sealed record CommandBenchmark(string Name, string Question, string[] Needs, Func<BenchContext, CommandSet> Prepare) : Benchmark(Name, Question, Needs)
{
    /// <summary>Whether it takes milliseconds; then it runs ten times as often.</summary>
    public bool IsShort { get; init; }

    public override IReadOnlyList<RowResult> Run(BenchContext bench)
    {
        using var set = Prepare(bench);
        string[][] commands = [set.Ours, .. set.Peers.Select(p => p.Command)];
        var (memory, written) = WarmUp(bench, set, commands);
        var sides = commands.Select(c => (Func<ChildUsage>)(() => Time(bench, set, written, c))).ToArray();
        var usages = Pairs.Run(bench.Options.Runs * (IsShort ? 10 : 1), sides);
        return [.. set.Peers.Select((peer, i) => Compare(peer, usages[0], usages[i + 1], memory[0], memory[i + 1]))];
    }

    private RowResult Compare(PeerCommand peer, ChildUsage[] ours, ChildUsage[] peers, long ourMemory, long peerMemory) => new(Name, peer.Label)
    {
        PeerFigure = Figures.Time(Spread.Of(peers.Select(u => u.Wall.TotalSeconds)).Median),
        OurFigure = Figures.Time(Spread.Of(ours.Select(u => u.Wall.TotalSeconds)).Median),
        Ratio = Pairs.Ratios(ours, peers, u => u.Wall.TotalSeconds),
        CpuRatio = Pairs.Ratios(ours, peers, u => u.Cpu.TotalSeconds).Median,
        PeerMemoryBytes = peerMemory,
        OurMemoryBytes = ourMemory,
        Target = peer.Target,
    };

    private static ChildUsage Time(BenchContext bench, CommandSet set, long written, string[] command)
    {
        var target = set.Target;
        if (set.Source is not null)
        {
            CopySource(bench, set);
        }
        else if (target is not null)
        {
            File.Delete(target);
            FreshPages.Make(Path.GetDirectoryName(target)!, written);
        }

        var usage = ChildProcess.Run(command, bench.ErrorFile);
        if (target is not null)
        {
            File.Delete(target);
        }

        return usage;
    }

    private static void CopySource(BenchContext bench, CommandSet set)
    {
        foreach (var left in Directory.GetFiles(Path.GetDirectoryName(set.Target)!, Path.GetFileName(set.Target) + "*"))
        {
            File.Delete(left);
        }

        ChildProcess.Run(["/bin/cp", "--sparse=always", set.Source!, set.Target!], bench.ErrorFile);
    }

    private (long[] Memory, long Written) WarmUp(BenchContext bench, CommandSet set, string[][] commands)
    {
        var target = set.Source is null ? set.Target : null;
        var memory = new long[commands.Length];
        long written = 0;
        for (var i = 0; i < commands.Length; i++)
        {
            for (var looks = IsShort ? 5 : 1; looks > 0; looks--)
            {
                if (set.Source is not null)
                {
                    CopySource(bench, set);
                }

                // Who ends after milliseconds may escape one look.
                memory[i] = Math.Max(memory[i], ChildProcess.RunWatchingMemory(commands[i], bench.ErrorFile).PeakMemoryBytes);
            }

            if (target is null)
            {
                continue;
            }

            var first = target + ".first";
            if (i == 0)
            {
                File.Move(target, first, overwrite: true);
                continue;
            }

            bool equal;
            if (set.AreEqual is { } judge)
            {
                equal = judge(first, target);
                written = Math.Min(new FileInfo(target).Length, bench.Inputs.GuestSize);
            }
            else
            {
                equal = FilesAreEqual(first, target, out written);
            }

            File.Delete(target);
            if (i == commands.Length - 1 || !equal)
            {
                File.Delete(first);
            }

            if (!equal)
            {
                throw new BenchException($"{Name}: platter's output differs from {commands[i][0]}'s");
            }
        }

        return (memory, written);
    }

    /// <param name="first">A file.</param>
    /// <param name="second">Another.</param>
    /// <param name="dataBytes">How much of it is not zeros, in pages of 4 KiB: what a run fills memory with.</param>
    private static bool FilesAreEqual(string first, string second, out long dataBytes)
    {
        const int page = 4096;
        dataBytes = 0;
        using var a = File.OpenHandle(first);
        using var b = File.OpenHandle(second);
        var length = RandomAccess.GetLength(a);
        if (length != RandomAccess.GetLength(b))
        {
            return false;
        }

        byte[] left = new byte[1 << 20], right = new byte[1 << 20];
        for (long at = 0; at < length;)
        {
            var size = RandomAccess.Read(a, left, at);
            for (var got = 0; got < size;)
            {
                got += RandomAccess.Read(b, right.AsSpan(got, size - got), at + got);
            }

            if (!left.AsSpan(0, size).SequenceEqual(right.AsSpan(0, size)))
            {
                return false;
            }

            for (var i = 0; i < size; i += page)
            {
                dataBytes += left.AsSpan(i, Math.Min(page, size - i)).ContainsAnyExcept((byte)0) ? page : 0;
            }

            at += size;
        }

        return true;
    }
}
