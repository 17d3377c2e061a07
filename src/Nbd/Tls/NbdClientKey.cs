using Platter.Core.Errors;
using Platter.Core.Tls;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>A client that has a key which its server knows. The server proves itself by the same key, whatever its name is.</summary>
/// <param name="tls">Who does the work.</param>
/// <param name="key">The key.</param>
public sealed class NbdClientKey(TlsLibrary tls, PreSharedKey key) : NbdClientTls
{
    /// <summary>Who a client is unless told otherwise, as with QEMU.</summary>
    public const string DefaultUser = "qemu";

    /// <summary>What may be agreed on.</summary>
    public TlsProfile Profile { get; init; } = TlsProfile.Default;

    /// <summary>Reads a key from a file (see <see cref="PreSharedKeys"/>).</summary>
    /// <param name="tls">Who does the work.</param>
    /// <param name="path">The file.</param>
    /// <param name="user">Whose key; null for <see cref="DefaultUser"/>.</param>
    /// <param name="profile">What may be agreed on; null for everything by default.</param>
    /// <exception cref="BlockException">The file is missing or broken, or has no key of that name; the message says so.</exception>
    public static NbdClientKey Load(TlsLibrary tls, string path, string? user = null, TlsProfile? profile = null) =>
        new(tls, PreSharedKeys.Load(path).Get(path, user ?? DefaultUser)) { Profile = profile ?? TlsProfile.Default };

    /// <inheritdoc/>
    internal override async ValueTask<NbdWire> ConnectAsync(SocketWire wire, string? hostName, CancellationToken cancellationToken) =>
        await TlsEngineWire.AuthenticateAsync(wire, tls.Connect(key, Profile), cancellationToken).ConfigureAwait(false);
}
