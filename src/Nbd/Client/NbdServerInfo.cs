namespace Platter.Nbd.Client;

/// <summary>What a server says about itself and its exports.</summary>
/// <param name="Exports">The export that was asked about, or all that it lists.</param>
public sealed record NbdServerInfo(IReadOnlyList<NbdExportDescription> Exports)
{
    /// <summary>Whether options can be refused without hanging up (fixed newstyle).</summary>
    public bool HasFixedHandshake { get; init; }

    /// <summary>Whether replies come in chunks, so that holes and errors in the middle can be told.</summary>
    public bool HasStructuredReplies { get; init; }

    /// <summary>Whether lengths have 64 bits.</summary>
    public bool HasExtendedHeaders { get; init; }

    /// <summary>Whether the connection is encrypted.</summary>
    public bool IsEncrypted { get; init; }
}
