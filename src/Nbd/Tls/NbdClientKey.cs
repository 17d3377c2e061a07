using Platter.Core.Errors;
using Platter.Core.Tls;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>A client that has a key which its server knows. The server proves itself by the same key, whatever its name is.</summary>
/// <param name="tls">Who does the work.</param>
/// <param name="key">The key.</param>
public sealed class NbdClientKey(PreSharedKeyTls tls, PreSharedKey key) : NbdClientTls
{
    /// <summary>Who a client is unless told otherwise, as with QEMU.</summary>
    public const string DefaultUser = "qemu";

    /// <summary>Reads a key from a file (see <see cref="PreSharedKeys"/>).</summary>
    /// <param name="tls">Who does the work.</param>
    /// <param name="path">The file.</param>
    /// <param name="user">Whose key; null for <see cref="DefaultUser"/>.</param>
    /// <exception cref="BlockException">The file is missing or broken, or has no key of that name; the message says so.</exception>
    public static NbdClientKey Load(PreSharedKeyTls tls, string path, string? user = null) => new(tls, PreSharedKeys.Load(path).Get(path, user ?? DefaultUser));

    /// <inheritdoc/>
    internal override async ValueTask<NbdWire> ConnectAsync(SocketWire wire, string? hostName, CancellationToken cancellationToken) =>
        await TlsEngineWire.AuthenticateAsync(wire, tls.Connect(key), cancellationToken).ConfigureAwait(false);
}
