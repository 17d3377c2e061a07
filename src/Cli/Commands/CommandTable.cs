using Platter.Cli.Options;

namespace Platter.Cli.Commands;

/// <summary>All commands, in the order of help; only the one that runs is made.</summary>
internal static class CommandTable
{
    private static readonly (string Name, Func<Command> Create)[] s_commands =
    [
        ("create", static () => new CreateCommand()),
        ("info", static () => new InfoCommand()),
        ("map", static () => new MapCommand()),
        ("check", static () => new CheckCommand()),
        ("compare", static () => new CompareCommand()),
        ("convert", static () => new ConvertCommand()),
        ("dd", static () => new DdCommand()),
        ("snapshot", static () => new SnapshotCommand()),
        ("bitmap", static () => new BitmapCommand()),
        ("resize", static () => new ResizeCommand()),
        ("amend", static () => new AmendCommand()),
        ("commit", static () => new CommitCommand()),
        ("rebase", static () => new RebaseCommand()),
        ("bench", static () => new BenchCommand()),
        ("measure", static () => new MeasureCommand()),
        ("digest", static () => new DigestCommand()),
        ("io", static () => new IoCommand()),
        ("serve", static () => new ServeCommand()),
        ("nbd info", static () => new NbdInfoCommand()),
        ("nbd list", static () => new NbdListCommand()),
        ("nbd map", static () => new NbdMapCommand()),
        ("nbd copy", static () => new NbdCopyCommand()),
        ("nbd certs", static () => new NbdCertsCommand()),
    ];

    // First words of commands that have two.
    private static readonly string[] s_groups = ["nbd"];

    // Commands of the peers that come with later versions: better said than "not found".
    private static readonly string[] s_later =
    [
        "daemon",
    ];

    /// <summary>The command that a command line starts with.</summary>
    /// <param name="words">The command line; at least one word.</param>
    /// <param name="used">How many of them are the command's name.</param>
    /// <exception cref="UsageException">There is none; the message tells what there is.</exception>
    public static Command Get(IReadOnlyList<string> words, out int used)
    {
        var isGroup = Array.IndexOf(s_groups, words[0]) >= 0;
        if (isGroup && (words.Count < 2 || !Array.Exists(s_commands, command => command.Name == $"{words[0]} {words[1]}")))
        {
            throw new UsageException($"'{words[0]}' is followed by one of: {Names(words[0])}", pointToHelp: true);
        }

        used = isGroup ? 2 : 1;
        return Get(isGroup ? $"{words[0]} {words[1]}" : words[0]);
    }

    /// <summary>The command of that name.</summary>
    /// <exception cref="UsageException">There is none; the message tells what there is.</exception>
    private static Command Get(string name)
    {
        foreach (var (known, create) in s_commands)
        {
            if (known == name)
            {
                return create();
            }
        }

        if (Array.IndexOf(s_later, name) >= 0)
        {
            throw new UsageException($"'{name}' is not in this version yet; it has: {Names()}");
        }

        var hint = Suggestion.For(name, s_commands, static command => command.Name) is { } near ? $"; did you mean '{near}'?" : string.Empty;
        throw new UsageException($"Command not found: {name}{hint}", pointToHelp: true);
    }

    /// <summary>Every command, made.</summary>
    public static IEnumerable<Command> All()
    {
        foreach (var (_, create) in s_commands)
        {
            yield return create();
        }
    }

    private static string Names() => string.Join(", ", Array.ConvertAll(s_commands, static command => command.Name));

    private static string Names(string group) => string.Join(
        ", ", s_commands.Where(command => command.Name.StartsWith($"{group} ", StringComparison.Ordinal)).Select(command => command.Name[(group.Length + 1)..]));
}
