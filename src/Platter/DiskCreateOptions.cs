using Platter.Core.Images;
using Platter.Nbd.Tls;

namespace Platter;

/// <summary>How a new image is made: one record per format, and <see cref="NamedCreateOptions"/> for options that come as text.</summary>
public abstract record DiskCreateOptions
{
    private protected DiskCreateOptions()
    {
    }

    /// <summary>The format's name.</summary>
    public abstract string Format { get; }

    /// <summary>Passwords and keys by id.</summary>
    public ISecretSource Secrets { get; init; } = NoSecrets.Instance;

    /// <summary>TLS credentials for NBD exports by id, as with <see cref="DiskOpenOptions.NbdCredentials"/>: for copies into an export.</summary>
    public Func<string, NbdClientTls>? NbdCredentials { get; init; }

    /// <summary>The password of an encrypted image, as UTF-8; a shorthand for <see cref="Secrets"/>.</summary>
    public string? Password { get; init; }

    /// <summary>Record the backing file without looking whether it is there (<c>-u</c>); the size must then be given.</summary>
    public bool BackingUnchecked { get; init; }

    /// <summary>Told how much of a preallocation is done, from 0 to 1.</summary>
    public IProgress<double>? Progress { get; init; }

    /// <summary>The image says from its first moment on that it is an unfinished copy, if its format can.</summary>
    internal bool Unfinished { get; init; }

    /// <summary>Which snapshot the image is to be, if its format can say it.</summary>
    internal SnapshotLabel? Label { get; init; }

    /// <summary>The options by their names.</summary>
    internal abstract NodeOptions ToNamed();
}
