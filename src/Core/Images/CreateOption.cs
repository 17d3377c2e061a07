namespace Platter.Core.Images;

/// <summary>What the value of a creation option is.</summary>
public enum CreateOptionKind
{
    /// <summary>Any text; the format judges it.</summary>
    Text,

    /// <summary><c>on</c> or <c>off</c>.</summary>
    Switch,

    /// <summary>Bytes, perhaps with a suffix.</summary>
    Size,

    /// <summary>A whole number, decimal or hexadecimal.</summary>
    Number,
}

/// <summary>An option that a format takes when an image is made (<c>-o</c>).</summary>
/// <param name="Name">As it is written (<c>cluster_size</c>).</param>
/// <param name="Kind">What its value is.</param>
/// <param name="Help">A few words.</param>
/// <param name="Default">What is meant when it is left out, where that is worth saying; null otherwise.</param>
public sealed record CreateOption(string Name, CreateOptionKind Kind, string Help, string? Default = null);
