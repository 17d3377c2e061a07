namespace Platter.Cli.Io;

/// <summary>The words behind a command of an io session: options and operands, told apart as getopt does.</summary>
internal sealed class IoWords
{
    private readonly Dictionary<char, string> _options = [];

    private IoWords()
    {
    }

    /// <summary>What is not an option, in order.</summary>
    public List<string> Operands { get; } = [];

    /// <summary>Whether an option was given.</summary>
    public bool Has(char letter) => _options.ContainsKey(letter);

    /// <summary>An option's argument, or null.</summary>
    public string? Get(char letter) => _options.GetValueOrDefault(letter);

    /// <summary>Reads them.</summary>
    /// <param name="command">Whose they are.</param>
    /// <param name="words">Without the command's name.</param>
    /// <exception cref="IoUsageException">An option that it does not have, or one without its argument.</exception>
    public static IoWords Parse(IoCommandInfo command, ReadOnlySpan<string> words)
    {
        var result = new IoWords();
        if (command.Letters.Length == 0)
        {
            // Without options a dash is only a dash.
            result.Operands.AddRange(words);
            return result;
        }

        for (var i = 0; i < words.Length; i++)
        {
            var word = words[i];
            if (word == "--")
            {
                result.Operands.AddRange(words[(i + 1)..]);
                break;
            }

            if (word.Length < 2 || word[0] != '-')
            {
                result.Operands.Add(word);
                continue;
            }

            for (var at = 1; at < word.Length; at++)
            {
                var letter = word[at];
                var known = letter == ':' ? -1 : command.Letters.IndexOf(letter, StringComparison.Ordinal);
                if (known < 0)
                {
                    throw new IoUsageException($"{command.Name}: invalid option -- '{letter}'");
                }

                if (known + 1 == command.Letters.Length || command.Letters[known + 1] != ':')
                {
                    result._options[letter] = string.Empty;
                    continue;
                }

                result._options[letter] = at + 1 < word.Length ? word[(at + 1)..]
                    : i + 1 < words.Length ? words[++i]
                    : throw new IoUsageException($"{command.Name}: option requires an argument -- '{letter}'");
                break;
            }
        }

        return result;
    }
}

/// <summary>The words of a command are wrong: its form is shown.</summary>
/// <param name="message">What is wrong, for standard error; empty for nothing but the form.</param>
internal sealed class IoUsageException(string message = "") : Exception(message);
