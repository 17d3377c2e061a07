namespace Platter.Core.Images;

/// <summary>Why an image names another file.</summary>
public enum ReferenceKind
{
    /// <summary>The backing file of an overlay.</summary>
    Backing,

    /// <summary>An external data file.</summary>
    DataFile,

    /// <summary>One image of a bundle.</summary>
    BundleImage,

    /// <summary>The bundle a linked clone was made from.</summary>
    ParentBundle,
}

/// <summary>Another file as an image names it: untrusted text until an <see cref="OpenGate"/> has allowed it.</summary>
/// <param name="Kind">Why it is named.</param>
/// <param name="Name">The name exactly as stored.</param>
/// <param name="Format">The format recorded for it, or null.</param>
/// <param name="Referrer">Name of the storage that holds the reference, for messages.</param>
/// <param name="BaseDirectory">Directory that relative names start from, or null when the referrer has none.</param>
public sealed record ImageReference(ReferenceKind Kind, string Name, string? Format, string Referrer, string? BaseDirectory)
{
    /// <summary>The role in the words of messages.</summary>
    public string Role => Kind switch
    {
        ReferenceKind.Backing => "backing file",
        ReferenceKind.DataFile => "data file",
        ReferenceKind.BundleImage => "bundle image",
        _ => "parent bundle",
    };
}
