using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Tests.Fuzz;

/// <summary>Lets an image reach the other files and directories of its input and nothing else; remembers what was asked for.</summary>
internal sealed class InputGate(FuzzInput input) : OpenGate
{
    /// <summary>Names that were allowed.</summary>
    public List<string> Allowed { get; } = [];

    public override NodeOptions Resolve(ImageReference reference)
    {
        var name = Path.Combine(reference.BaseDirectory ?? string.Empty, reference.Name).Replace("./", string.Empty, StringComparison.Ordinal);
        if (!input.Files.Keys.Any(f => f == name || f.StartsWith(name + "/", StringComparison.Ordinal)))
        {
            throw new BlockException(
                BlockErrorKind.NotAllowed, $"{reference.Referrer}: {reference.Role} '{SafeText.Clean(reference.Name, 256)}' is not part of the input");
        }

        Allowed.Add(name);
        return NodeOptions.ForFile(name);
    }

    /// <summary>Whether a file was allowed, or lies in a directory that was.</summary>
    public bool Allows(string file) => Allowed.Exists(name => file == name || file.StartsWith(name + "/", StringComparison.Ordinal));
}
