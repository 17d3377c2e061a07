namespace Platter.Bench.Rows;

/// <summary>Something to measure; gives one line of the table for each peer.</summary>
/// <param name="Name">Group and name: "convert/zlib".</param>
/// <param name="Question">The question it answers.</param>
/// <param name="Needs">Tools without which it is skipped.</param>
internal abstract record Benchmark(string Name, string Question, string[] Needs)
{
    public abstract IReadOnlyList<RowResult> Run(BenchContext bench);
}
