namespace Platter.Cli.Options;

/// <summary>What an operand names: an export or file by its name, or a server that is to be started, <c>[ CMD ARGS ... ]</c>, in words of their own.</summary>
/// <param name="Name">A URI, a path or another name; null for a server.</param>
/// <param name="Command">The program and its arguments; empty for a name.</param>
internal sealed record NbdPlace(string? Name, IReadOnlyList<string> Command)
{
    private const string First = "[", Last = "]";

    /// <summary>The places that operands name.</summary>
    /// <exception cref="UsageException">A bracket is missing, or there is nothing between the two.</exception>
    public static IReadOnlyList<NbdPlace> Parse(IReadOnlyList<string> operands)
    {
        var places = new List<NbdPlace>();
        for (var i = 0; i < operands.Count; i++)
        {
            if (operands[i] != First)
            {
                places.Add(new(operands[i], []));
                continue;
            }

            var command = operands.Skip(i + 1).TakeWhile(word => word != Last).ToArray();
            i += command.Length + 1;
            if (i >= operands.Count)
            {
                throw new UsageException("'[' without ']': the command of a server ends with a ']' of its own");
            }

            places.Add(command.Length > 0 ? new(null, command) : throw new UsageException("'[ ]': expected the command of a server between the two"));
        }

        return places;
    }
}
