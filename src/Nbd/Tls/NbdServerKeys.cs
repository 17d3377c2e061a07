using Platter.Core.Errors;
using Platter.Core.Tls;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>A server whose clients have a key each that it knows. TLS 1.2 and 1.3.</summary>
/// <param name="tls">Who does the work.</param>
/// <param name="keys">The clients' keys.</param>
public sealed class NbdServerKeys(TlsLibrary tls, PreSharedKeys keys) : NbdServerTls
{
    /// <summary>What may be agreed on.</summary>
    public TlsProfile Profile { get; init; } = TlsProfile.Default;

    /// <summary>Reads the keys of a file (see <see cref="PreSharedKeys"/>).</summary>
    /// <exception cref="BlockException">The file is missing or broken; the message names it.</exception>
    public static NbdServerKeys Load(TlsLibrary tls, string path, bool isRequired = true, TlsProfile? profile = null) =>
        new(tls, PreSharedKeys.Load(path)) { IsRequired = isRequired, Profile = profile ?? TlsProfile.Default };

    /// <inheritdoc/>
    internal override NbdWire Accept(SocketWire wire, TimeSpan timeout) => TlsEngineWire.Authenticate(wire, tls.Accept(keys, Profile), timeout);
}
