using Platter.Cli.Io;
using Xunit;

namespace Platter.Tests.Unit.Cli;

/// <summary>Numbers as qemu-io writes them; the expected texts are its own.</summary>
public sealed class IoNumbersTests
{
    [Theory]
    [InlineData(0, "0 bytes")]
    [InlineData(512, "512 bytes")]
    [InlineData(1536, "1.500 KiB")]
    [InlineData(2162688, "2.062 MiB")]
    [InlineData(1024000, "1000 KiB")]
    [InlineData(1049088, "1 MiB")]
    [InlineData(10420224, "9.938 MiB")]
    [InlineData(1610612736, "1.500 GiB")]
    [InlineData(10736344498176, "9.765 TiB")]
    [InlineData(8.384582, "8.384582 bytes")]
    public void Sizes_have_three_decimals_or_none(double bytes, string text) => Assert.Equal(text, IoNumbers.Size(bytes));

    [Fact]
    public void A_report_has_the_time_in_hundredths()
    {
        Assert.Equal(
            "read 512/512 bytes at offset 0\n512 bytes, 1 ops; 0:01:01.06 (8.385195 bytes/sec and 0.0164 ops/sec)\n",
            IoNumbers.Report("read", TimeSpan.FromSeconds(61.06), 0, 512, 512, forPrograms: false));
        Assert.Equal(
            "wrote 1024/1024 bytes at offset 4096\n1 KiB, 1 ops; 00.50 sec (2 KiB/sec and 2.0000 ops/sec)\n",
            IoNumbers.Report("wrote", TimeSpan.FromSeconds(0.5), 4096, 1024, 1024, forPrograms: false));
        Assert.Equal("1024,1,0:00:00.50,2048.000,2.000\n", IoNumbers.Report("wrote", TimeSpan.FromSeconds(0.5), 4096, 1024, 1024, forPrograms: true));
    }

    [Theory]
    [InlineData("0x41", 0x41)]
    [InlineData("0200", 128)]
    [InlineData("255", 255)]
    [InlineData("0", 0)]
    public void Patterns_are_written_as_in_C(string text, byte value) => Assert.Equal(value, IoNumbers.ParsePattern(text));

    [Theory]
    [InlineData("256")]
    [InlineData("-1")]
    [InlineData("x")]
    [InlineData("08")]
    [InlineData("")]
    public void What_is_no_byte_is_no_pattern(string text) =>
        Assert.Equal($"{text} is not a valid pattern byte", Assert.Throws<IoFailure>(() => IoNumbers.ParsePattern(text)).Message);
}
