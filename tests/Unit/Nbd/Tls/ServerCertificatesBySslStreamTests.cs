using Platter.Core.Tls;

namespace Platter.Tests.Unit.Nbd.Tls;

/// <summary>TLS by .NET itself.</summary>
public sealed class ServerCertificatesBySslStreamTests : ServerCertificatesTests
{
    /// <inheritdoc/>
    protected override TlsLibrary? Library => null;
}
