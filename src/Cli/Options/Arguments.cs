namespace Platter.Cli.Options;

/// <summary>A parsed command line: the options in the order they were given, and the operands.</summary>
internal sealed class Arguments
{
    private readonly List<(Option Option, string? Value)> _given;

    /// <summary>Takes over the lists that the parser filled.</summary>
    public Arguments(List<(Option Option, string? Value)> given, List<string> operands)
    {
        _given = given;
        Operands = operands;
    }

    /// <summary>What is not an option, in order.</summary>
    public IReadOnlyList<string> Operands { get; }

    /// <summary>Every option with its argument, in the order in which they were given.</summary>
    public IReadOnlyList<(Option Option, string? Value)> InOrder => _given;

    /// <summary>Whether the option was given at least once.</summary>
    public bool Has(Option option)
    {
        foreach (var (given, _) in _given)
        {
            if (ReferenceEquals(given, option))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The option's argument, or null when it was not given; the last one wins.</summary>
    public string? Get(Option option)
    {
        for (var i = _given.Count - 1; i >= 0; i--)
        {
            if (ReferenceEquals(_given[i].Option, option))
            {
                return _given[i].Value;
            }
        }

        return null;
    }

    /// <summary>The arguments of every occurrence, in order.</summary>
    public IEnumerable<string> GetAll(Option option)
    {
        foreach (var (given, value) in _given)
        {
            if (ReferenceEquals(given, option))
            {
                yield return value!;
            }
        }
    }
}
