namespace Platter.Core.Images;

/// <summary>Passwords and keys by the id that options give them (<c>--object secret,id=…</c>).</summary>
public interface ISecretSource
{
    /// <summary>The bytes of a secret.</summary>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.NotFound"/> or <see cref="Errors.BlockErrorKind.WrongSecret"/>.</exception>
    ReadOnlyMemory<byte> Get(string id);
}

/// <summary>Knows no secret.</summary>
public sealed class NoSecrets : ISecretSource
{
    /// <summary>The one instance.</summary>
    public static NoSecrets Instance { get; } = new();

    /// <inheritdoc/>
    public ReadOnlyMemory<byte> Get(string id) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.NotFound, $"No secret with id '{Errors.SafeText.Clean(id, 64)}'");
}
