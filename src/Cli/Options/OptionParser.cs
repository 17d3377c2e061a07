using Platter.Core.Errors;

namespace Platter.Cli.Options;

/// <summary>Parses a command line by a table of options, as getopt_long does: short options in bundles (<c>-pn</c>), arguments attached
/// (<c>-Oraw</c>, <c>--output=json</c>) or following, long options shortened while they stay unique, options after operands, and <c>--</c>
/// to end them.</summary>
internal static class OptionParser
{
    /// <summary>Parses <paramref name="words"/>.</summary>
    /// <param name="table">The options that may occur.</param>
    /// <param name="words">The command line after the command's name.</param>
    /// <param name="stopAtOperand">The first operand ends the options (for options before a command).</param>
    /// <exception cref="UsageException">An option is unknown, ambiguous, lacks its argument or has one too many.</exception>
    public static Arguments Parse(IReadOnlyList<Option> table, ReadOnlySpan<string> words, bool stopAtOperand = false)
    {
        var given = new List<(Option, string?)>();
        var operands = new List<string>();
        for (var i = 0; i < words.Length; i++)
        {
            var word = words[i];
            if (word == "--")
            {
                operands.AddRange(words[(i + 1)..]);
                break;
            }

            if (word.StartsWith("--", StringComparison.Ordinal))
            {
                given.Add(ParseLong(table, words, ref i));
            }
            else if (word.Length > 1 && word[0] == '-')
            {
                ParseBundle(table, words, ref i, given);
            }
            else
            {
                operands.Add(word);
                if (stopAtOperand)
                {
                    operands.AddRange(words[(i + 1)..]);
                    break;
                }
            }
        }

        return new(given, operands);
    }

    private static (Option Option, string? Value) ParseLong(IReadOnlyList<Option> table, ReadOnlySpan<string> words, ref int i)
    {
        var word = words[i];
        var equals = word.IndexOf('=', StringComparison.Ordinal);
        var name = equals < 0 ? word[2..] : word[2..equals];
        var option = FindLong(table, name);
        if (option.Argument is null)
        {
            return equals < 0 ? (option, null) : throw new UsageException($"option '--{option.Long}' takes no argument", pointToHelp: true);
        }

        if (equals < 0 && option.TakesArgumentAttachedOnly)
        {
            return (option, null);
        }

        return equals >= 0 ? (option, word[(equals + 1)..]) : (option, Following(words, ref i, $"--{option.Long}"));
    }

    private static void ParseBundle(IReadOnlyList<Option> table, ReadOnlySpan<string> words, ref int i, List<(Option, string?)> given)
    {
        var bundle = words[i];
        for (var at = 1; at < bundle.Length; at++)
        {
            var option = FindShort(table, bundle[at]) ?? throw new UsageException(
                $"unrecognized option '-{SafeText.Clean(bundle[at].ToString())}'", pointToHelp: true);
            if (option.Argument is null || option.TakesArgumentAttachedOnly)
            {
                given.Add((option, null));
                continue;
            }

            given.Add((option, at + 1 < bundle.Length ? bundle[(at + 1)..] : Following(words, ref i, $"-{option.Short}")));
            return;
        }
    }

    private static string Following(ReadOnlySpan<string> words, ref int i, string shown) => i + 1 < words.Length
        ? words[++i]
        : throw new UsageException($"missing argument for option '{shown}'", pointToHelp: true);

    private static Option? FindShort(IReadOnlyList<Option> table, char letter)
    {
        for (var i = 0; i < table.Count; i++)
        {
            if (table[i].Short == letter)
            {
                return table[i];
            }
        }

        return null;
    }

    private static Option FindLong(IReadOnlyList<Option> table, string name)
    {
        Option? found = null;
        string? others = null;
        for (var i = 0; i < table.Count; i++)
        {
            var option = table[i];
            if (option.Long == name && name.Length > 0)
            {
                return option;
            }

            if (name.Length > 0 && option.Long.StartsWith(name, StringComparison.Ordinal))
            {
                others = found is null ? $"--{option.Long}" : $"{others} --{option.Long}";
                found ??= option;
            }
        }

        if (found is null)
        {
            var hint = Suggestion.For(name, table, static option => option.Long) is { } near ? $"; did you mean '--{near}'?" : string.Empty;
            throw new UsageException($"unrecognized option '--{SafeText.Clean(name, 64)}'{hint}", pointToHelp: true);
        }

        return others == $"--{found.Long}"
            ? found
            : throw new UsageException($"option '--{SafeText.Clean(name, 64)}' is ambiguous; possibilities: {others}", pointToHelp: true);
    }
}
