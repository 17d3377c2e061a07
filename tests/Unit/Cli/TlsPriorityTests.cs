using Platter.Cli.Options;
using Platter.Core.Tls;
using Xunit;

namespace Platter.Tests.Unit.Cli;

/// <summary>QEMU's <c>priority=</c>: what it may say.</summary>
public sealed class TlsPriorityTests
{
    [Theory]
    [InlineData(null, TlsVersions.All)]
    [InlineData("NORMAL", TlsVersions.All)]
    [InlineData("@SYSTEM", TlsVersions.All)]
    [InlineData("@QEMU,SYSTEM", TlsVersions.All)]
    [InlineData("NORMAL:+PSK:+ECDHE-PSK:+DHE-PSK", TlsVersions.All)]
    [InlineData("NORMAL:-VERS-TLS1.3", TlsVersions.Tls12)]
    [InlineData("NORMAL:-VERS-TLS1.0:-VERS-TLS1.1:!VERS-TLS1.2", TlsVersions.Tls13)]
    [InlineData("NORMAL:-VERS-ALL:+VERS-TLS1.2", TlsVersions.Tls12)]
    [InlineData("NORMAL:-VERS-TLS-ALL:+VERS-TLS1.3:%SERVER_PRECEDENCE", TlsVersions.Tls13)]
    [InlineData("SECURE128:-RSA:-3DES-CBC:-SHA1", TlsVersions.All)]
    [InlineData("SECURE256", TlsVersions.All, true)]
    [InlineData("SECURE192:-VERS-TLS1.2", TlsVersions.Tls13, true)]
    public void Versions_and_strength_are_chosen(string? text, TlsVersions versions, bool isStrong = false) =>
        Assert.Equal(new TlsProfile(versions, isStrong), TlsPriority.Parse(text));

    [Theory]
    [InlineData("", "priority '' is not supported")]
    [InlineData("NONE", "priority 'NONE' is not supported")]
    [InlineData("LEGACY", "priority 'LEGACY' is not supported")]
    [InlineData("-VERS-TLS1.3", "priority '-VERS-TLS1.3' is not supported")]
    [InlineData("NORMAL:+VERS-TLS1.1", "priority '+VERS-TLS1.1' is not supported")]
    [InlineData("NORMAL:VERS-TLS1.2", "priority 'VERS-TLS1.2' is not supported")]
    [InlineData("NORMAL:+ANON-DH", "priority '+ANON-DH' is not supported")]
    [InlineData("NORMAL:+RSA", "priority '+RSA' is not supported")]
    [InlineData("NORMAL:-AES-128-GCM", "priority '-AES-128-GCM' is not supported")]
    [InlineData("NORMAL:%UNSAFE_RENEGOTIATION", "priority '%UNSAFE_RENEGOTIATION' is not supported")]
    [InlineData("NORMAL:", "priority '' is not supported")]
    [InlineData("NORMAL:-VERS-ALL", "priority 'NORMAL:-VERS-ALL' leaves no version of TLS")]
    public void What_would_be_weaker_or_cannot_be_chosen_is_refused(string text, string expected) =>
        Assert.Contains(expected, Assert.Throws<UsageException>(() => TlsPriority.Parse(text)).Message, StringComparison.Ordinal);
}
