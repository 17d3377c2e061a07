using Platter.Cli.Options;
using Xunit;

namespace Platter.Tests.Unit.Cli;

/// <summary>Every answer here was given by qemu-img 7.2: <c>info</c> for the formatted sizes, <c>measure --size</c> and <c>map -s</c> for the parsed ones.</summary>
public sealed class SizeTextTests
{
    [Theory]
    [InlineData(0, "0 B")]
    [InlineData(512, "512 B")]
    [InlineData(1024, "1 KiB")]
    [InlineData(1536, "1.5 KiB")]
    [InlineData(10240, "10 KiB")]
    [InlineData(200704, "196 KiB")]
    [InlineData(459264, "448 KiB")]
    [InlineData(1000448, "977 KiB")]
    [InlineData(1023488, "1e+03 KiB")]
    [InlineData(1024000, "0.977 MiB")]
    [InlineData(1048064, "1 MiB")]
    [InlineData(1048576, "1 MiB")]
    [InlineData(1100288, "1.05 MiB")]
    [InlineData(1536000, "1.46 MiB")]
    [InlineData(2297856, "2.19 MiB")]
    [InlineData(99999744, "95.4 MiB")]
    [InlineData(123456789, "118 MiB")]
    [InlineData(1073741824, "1 GiB")]
    [InlineData(1L << 60, "1 EiB")]
    [InlineData(long.MaxValue, "8 EiB")]
    public void Sizes_have_three_significant_digits(long bytes, string expected) => Assert.Equal(expected, SizeText.Format(bytes));

    [Theory]
    [InlineData(1024 + 128, "1.12 KiB")] // 1.125: the even neighbour, as C rounds
    [InlineData(1024 + 384, "1.38 KiB")] // 1.375
    public void Ties_go_to_the_even_digit(long bytes, string expected) => Assert.Equal(expected, SizeText.Format(bytes));

    [Theory]
    [InlineData("1", 1)]
    [InlineData("010", 10)]
    [InlineData("1b", 1)]
    [InlineData("1B", 1)]
    [InlineData("1.0", 1)]
    [InlineData("1.", 1)]
    [InlineData("1.0b", 1)]
    [InlineData("1.k", 1024)]
    [InlineData("1.5k", 1536)]
    [InlineData("0.5k", 512)]
    [InlineData("0.1k", 102)]
    [InlineData("1.9999k", 2048)]
    [InlineData("0.0009k", 1)]
    [InlineData("1.2345678M", 1294538)]
    [InlineData("1.1K", 1126)]
    [InlineData("1.7M", 1782579)]
    [InlineData("1.00000000000000000000001k", 1024)]
    [InlineData(" 1k", 1024)]
    [InlineData("+1k", 1024)]
    [InlineData("10T", 10995116277760)]
    [InlineData("1024P", 1152921504606846976)]
    [InlineData("1e", 1152921504606846976)]
    [InlineData("1.5E", 1729382256910270464)]
    [InlineData("0x10", 16)]
    [InlineData("0X1F", 31)]
    [InlineData("0x10b", 267)]
    [InlineData("0x1B", 27)]
    [InlineData("9223372036854775807", long.MaxValue)]
    public void Sizes_are_read_as_the_peer_reads_them(string text, long expected) => Assert.Equal(expected, SizeText.Parse(text, "size"));

    [Theory]
    [InlineData("")]
    [InlineData("k")]
    [InlineData("1.5")]
    [InlineData("1.5b")]
    [InlineData("4.00001")]
    [InlineData(".5k")]
    [InlineData("1k ")]
    [InlineData("1 k")]
    [InlineData("1kb")]
    [InlineData("1KiB")]
    [InlineData("1e3")]
    [InlineData("0x")]
    [InlineData("0xk")]
    [InlineData("0x10k")]
    [InlineData("0x1.8k")]
    [InlineData("00x10")]
    [InlineData("0b1")]
    [InlineData("-1")]
    [InlineData("-0")]
    [InlineData("nan")]
    [InlineData("inf")]
    [InlineData("1,5k")]
    [InlineData("1_000")]
    [InlineData("\u0661")]
    public void What_is_no_size_is_refused(string text)
    {
        var e = Assert.Throws<UsageException>(() => SizeText.Parse(text, "start offset"));
        Assert.StartsWith($"Invalid start offset specified: '{text}'. You may use k, M, G, T, P or E suffixes", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("9223372036854775808")]
    [InlineData("18446744073709551616")]
    [InlineData("99999999999999999999999999999999")]
    [InlineData("8E")]
    [InlineData("16E")]
    [InlineData("0x8000000000000000")]
    [InlineData("0x123456789012345678")]
    public void What_does_not_fit_is_refused(string text)
    {
        var e = Assert.Throws<UsageException>(() => SizeText.Parse(text, "image size"));
        Assert.Equal("Invalid image size specified. Must be between 0 and 9223372036854775807.", e.Message);
    }

    [Fact]
    public void Bounds_of_the_option_are_told() => Assert.Equal(
        "Invalid bs specified. Must be between 1 and 2147483647.",
        Assert.Throws<UsageException>(() => SizeText.Parse("0", "bs", 1, int.MaxValue)).Message);
}
