using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Core.Faults;

/// <summary>The configuration file of <c>blkdebug</c>: sections in brackets, one rule each, with lines <c>name = "value"</c> and comments behind <c>#</c>.</summary>
internal static class FaultConfiguration
{
    /// <summary>Reads it.</summary>
    /// <returns>The sections in order.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>, naming the line.</exception>
    public static List<(string Section, NodeOptions Values)> Parse(string text)
    {
        var result = new List<(string, NodeOptions)>();
        var number = 0;
        foreach (var untrimmed in text.Split('\n'))
        {
            number++;
            var line = untrimmed.Trim();
            if (line.Length == 0 || line[0] == '#')
            {
                continue;
            }

            if (line[0] == '[' && line[^1] == ']')
            {
                result.Add((line[1..^1].Trim(), new NodeOptions()));
                continue;
            }

            var equals = line.IndexOf('=', StringComparison.Ordinal);
            if (equals <= 0 || result.Count == 0)
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"blkdebug config file, line {number}: '{SafeText.Clean(line, 64)}' is neither a section nor name = \"value\"");
            }

            var value = line[(equals + 1)..].Trim();
            result[^1].Item2[line[..equals].Trim()] = value.Length >= 2 && value[0] == '"' && value[^1] == '"' ? value[1..^1] : value;
        }

        return result;
    }
}
