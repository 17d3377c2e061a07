using Platter.Bench.Rows;

namespace Platter.Bench.Output;

/// <summary>The columns of the table, on the terminal and as Markdown.</summary>
internal static class ResultTable
{
    private static readonly (string Title, int Width, Func<RowResult, string> Text)[] Columns =
    [
        ("row", 22, r => r.Name),
        ("peer", 28, r => r.Peer),
        ("peer", 12, r => r.PeerFigure),
        ("ours", 12, r => r.OurFigure),
        ("ratio (min–max)", 18, r => r.Ratio is { } x ? $"{x.Median:0.00} ({x.Min:0.00}–{x.Max:0.00})" : string.Empty),
        ("target", 7, r => r.Target?.ToString() ?? "–"),
        ("", 8, r => r.Verdict),
        ("CPU", 5, r => r.CpuRatio is { } x ? $"{x:0.00}" : "–"),
        ("peer's memory", 9, r => Figures.Memory(r.PeerMemoryBytes)),
        ("our memory", 9, r => Figures.Memory(r.OurMemoryBytes)),
        ("others", 6, r => $"{r.OthersShare:P0}"),
    ];

    public static string TerminalHeader => Line(c => c.Title switch { "peer's memory" => "mem peer", "our memory" => "mem ours", var title => title });

    public static string TerminalLine(RowResult row) =>
        row.Missing is null ? Line(c => c.Text(row)) : $"{row.Name,-22}  {(row.Failed ? "FAILED" : "skipped")}: {row.Missing}";

    public static IEnumerable<string> Markdown(IEnumerable<RowResult> rows) =>
    [
        "| " + string.Join(" | ", Columns.Select((c, i) => i switch { 2 => "peer's median", 3 => "our median", _ => c.Title })) + " |",
        "|" + string.Join("|", Columns.Select((_, i) => i is 0 or 1 or 6 ? " --- " : " ---: ")) + "|",
        .. rows.Select(r => r.Missing is null
            ? "| " + string.Join(" | ", Columns.Select(c => c.Text(r))) + " |"
            : $"| {r.Name} | {(r.Failed ? "failed" : "skipped")}: {r.Missing.Replace("|", "\\|", StringComparison.Ordinal)} |" + string.Concat(Enumerable.Repeat(" |", Columns.Length - 2))),
    ];

    private static string Line(Func<(string Title, int Width, Func<RowResult, string> Text), string> text) =>
        string.Join("  ", Columns.Select((c, i) => i < 2 ? text(c).PadRight(c.Width) : text(c).PadLeft(c.Width))).TrimEnd();
}
