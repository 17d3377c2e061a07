using Platter.Core.Images;
using Platter.Formats.Qcow2.Layout;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Layout;

/// <summary>Our header extension that says which snapshot an image is.</summary>
public sealed class SnapshotLabelExtensionTests
{
    [Theory]
    [InlineData("Clean install", "2024-03-01T09:00:00Z", "0000000065e1991000000000436c65616e20696e7374616c6c")]
    [InlineData("ü", "1969-12-31T23:59:59.5Z", "ffffffffffffffff1dcd6500c3bc")]
    public void Bytes_are_as_documented(string name, string date, string hex)
    {
        var label = new SnapshotLabel(name, DateTimeOffset.Parse(date, System.Globalization.CultureInfo.InvariantCulture));
        Assert.Equal(hex, Convert.ToHexStringLower(SnapshotLabelExtension.ToBytes(label)));
        Assert.Equal(label, SnapshotLabelExtension.Parse(Convert.FromHexString(hex)));
    }

    [Theory]
    [InlineData("")]
    [InlineData("0000000065e1")]
    [InlineData("0000000065e1991000000000")]
    [InlineData("7fffffffffffffff0000000041")]
    [InlineData("80000000000000000000000041")]
    [InlineData("0000000065e19910ffffffff41")]
    [InlineData("0000000065e199103b9aca0041")]
    public void What_makes_no_sense_is_no_label(string hex) => Assert.Null(SnapshotLabelExtension.Parse(Convert.FromHexString(hex)));

    [Fact]
    public void Bytes_that_are_no_UTF8_are_still_a_name() => Assert.Equal("a\ufffd", SnapshotLabelExtension.Parse(Convert.FromHexString("0000000065e199100000000061ff"))?.Name);
}
