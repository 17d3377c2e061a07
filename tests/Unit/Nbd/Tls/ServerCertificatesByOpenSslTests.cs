using Platter.Core.Tls;
using Platter.Host.Tls;

namespace Platter.Tests.Unit.Nbd.Tls;

/// <summary>TLS by the host's OpenSSL.</summary>
public sealed class ServerCertificatesByOpenSslTests : ServerCertificatesTests
{
    /// <inheritdoc/>
    protected override TlsLibrary? Library => OpenSslLibrary.Instance;
}
