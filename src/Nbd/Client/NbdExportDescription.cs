using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>What a server says about an export to whoever only asks. Names and descriptions are text of a stranger, not safe to print as they are.</summary>
/// <param name="Name">Its name.</param>
public sealed record NbdExportDescription(string Name)
{
    /// <summary>The server's words about it; empty for none.</summary>
    public string Description { get; init; } = string.Empty;

    /// <summary>Its size in bytes; null when the server tells only those who use it.</summary>
    public long? Size { get; init; }

    /// <summary>What it offers; nothing when <see cref="Size"/> is null.</summary>
    public NbdTransmissionFlags Flags { get; init; }

    /// <summary>Size constraints; null when the server names none.</summary>
    public NbdBlockSizes? BlockSizes { get; init; }

    /// <summary>Its metadata contexts.</summary>
    public IReadOnlyList<string> Contexts { get; init; } = [];
}
