using Platter.Bench.Rows;

namespace Platter.Bench.Output;

/// <summary>Writes the figures into <c>docs/benchmarks.md</c>, between two marks; the rest of the page is kept by hand.</summary>
internal static class BenchmarkPage
{
    private const string Begin = "<!-- figures: ./bench writes from here -->", End = "<!-- to here -->";

    public static void Write(string path, string circumstances, IReadOnlyList<RowResult> rows)
    {
        var page = File.Exists(path) ? File.ReadAllText(path) : $"# Benchmarks\n\n{Begin}\n{End}\n";
        var begin = page.IndexOf(Begin, StringComparison.Ordinal);
        var end = page.IndexOf(End, StringComparison.Ordinal);
        if (begin < 0 || end < begin)
        {
            throw new BenchException($"{path}: the marks between which the figures belong are missing: {Begin} and {End}");
        }

        string[] figures = [Begin, string.Empty, circumstances, string.Empty, .. ResultTable.Markdown(rows), string.Empty];
        File.WriteAllText(path, page[..begin] + string.Join('\n', figures) + "\n" + page[end..]);
    }
}
