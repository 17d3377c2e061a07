using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Tests.Fuzz;

/// <summary>Lets an image reach the other files of its input and nothing else; remembers what was asked for.</summary>
internal sealed class InputGate(FuzzInput input) : OpenGate
{
    /// <summary>Names that were allowed.</summary>
    public List<string> Allowed { get; } = [];

    public override NodeOptions Resolve(ImageReference reference)
    {
        if (!input.Files.ContainsKey(reference.Name))
        {
            throw new BlockException(
                BlockErrorKind.NotAllowed, $"{reference.Referrer}: {reference.Role} '{SafeText.Clean(reference.Name, 256)}' is not part of the input");
        }

        Allowed.Add(reference.Name);
        return NodeOptions.ForFile(reference.Name);
    }
}
