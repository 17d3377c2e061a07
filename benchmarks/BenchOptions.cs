namespace Platter.Bench;

/// <summary>What was asked for on the command line.</summary>
internal sealed record BenchOptions
{
    public const string Usage = """
        Compares platter with its peers, side by side.

          ./bench                  everything (about eight minutes), and writes docs/benchmarks.md
          ./bench NAME...          these rows, or all rows of a group: convert, nbd, convert/zlib ...
          ./bench --list           which rows there are, and the question each answers
          ./bench --runs N         pairs of runs for each row (7)
          ./bench --quick          small images, 3 pairs: to see that everything works
          ./bench --write          write docs/benchmarks.md although rows were left out
          ./bench --no-write       do not write it
          ./bench --platter FILE   measure this program instead of dist/platter
        """;

    public IReadOnlyList<string> Names { get; private init; } = [];

    public bool List { get; private init; }

    public bool Quick { get; private init; }

    public int Runs { get; private init; } = 7;

    /// <summary>Whether to write the page; null: when every row was asked for.</summary>
    public bool? Write { get; private init; }

    public string? Platter { get; private init; }

    public bool Help { get; private init; }

    public static BenchOptions Parse(string[] arguments)
    {
        var options = new BenchOptions();
        var names = new List<string>();
        int? runs = null;
        for (var i = 0; i < arguments.Length; i++)
        {
            string Value() => ++i < arguments.Length ? arguments[i] : throw new BenchException($"{arguments[i - 1]} needs a value");
            switch (arguments[i])
            {
                case "-h" or "--help":
                    options = options with { Help = true };
                    break;
                case "--list":
                    options = options with { List = true };
                    break;
                case "--quick":
                    options = options with { Quick = true };
                    break;
                case "--write":
                    options = options with { Write = true };
                    break;
                case "--no-write":
                    options = options with { Write = false };
                    break;
                case "--runs":
                    runs = int.TryParse(Value(), out var n) && n > 0 ? n : throw new BenchException("--runs needs a number from 1 on");
                    break;
                case "--platter":
                    options = options with { Platter = Path.GetFullPath(Value()) };
                    break;
                case ['-', ..] unknown:
                    throw new BenchException($"unknown option {unknown}");
                default:
                    names.Add(arguments[i].TrimEnd('/'));
                    break;
            }
        }

        return options with { Names = names, Runs = runs ?? (options.Quick ? 3 : options.Runs) };
    }

    public bool Wants(string row) => Names.Count == 0 || Names.Any(n => NamesRow(n, row));

    /// <summary>Whether a name on the command line means this row: itself, its group, or the beginning of its name.</summary>
    public static bool NamesRow(string name, string row) =>
        row == name || row.StartsWith(name + "/", StringComparison.Ordinal) || row.StartsWith(name + "-", StringComparison.Ordinal);
}
