namespace Platter.Core.Images;

/// <summary>What changing the options of an image needs besides them.</summary>
public sealed class AmendContext
{
    /// <summary>Passwords and keys.</summary>
    public ISecretSource Secrets { get; init; } = NoSecrets.Instance;

    /// <summary>Allow what makes an encrypted image unreadable or forgets a password (<c>--force</c>).</summary>
    public bool Force { get; init; }

    /// <summary>Told 0 to 1.</summary>
    public IProgress<double>? Progress { get; init; }
}
