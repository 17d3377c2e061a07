namespace Platter.Core.Images;

/// <summary>Decides what an image may make us open. Backing files, data files and parents are opened through the caller's gate or not at all.</summary>
/// <remarks>A gate judges names; it opens nothing itself. Thread-safe.</remarks>
public abstract class OpenGate
{
    /// <summary>Turns a stored reference into options that may be opened.</summary>
    /// <returns>Options for a storage (<c>driver=file,filename=…</c>) or for an image on one (<c>driver=qcow2,file.driver=…</c>).
    /// What they lead to must be a regular file, a block device or an NBD export; the opener refuses anything else.</returns>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.NotAllowed"/>, naming the referrer and the reference.</exception>
    public abstract NodeOptions Resolve(ImageReference reference);
}

/// <summary>Follows nothing: for <c>info</c> and for images nobody trusts.</summary>
public sealed class ClosedGate : OpenGate
{
    private readonly string _reason;

    /// <summary>A gate that refuses with <paramref name="reason"/> ("references are not followed with --untrusted").</summary>
    public ClosedGate(string reason) => _reason = reason;

    /// <inheritdoc/>
    public override NodeOptions Resolve(ImageReference reference) => throw new Errors.BlockException(
        Errors.BlockErrorKind.NotAllowed,
        $"{reference.Referrer}: {reference.Role} '{Errors.SafeText.Clean(reference.Name, 256)}' is not opened: {_reason}");
}
