using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

public class ParallelsHeaderTests
{
    // qemu-img 7.2: create -f parallels a.hds 10M; then the first 64 bytes.
    private static readonly byte[] s_golden = Convert.FromHexString(
        "576974686F7546726553706163457874" + "02000000" + "10000000" + "28000000" + "00080000" + "0A000000" + "0050000000000000"
        + "00000000" + "00080000" + "00000000" + "0000000000000000");

    [Fact]
    public void Golden_bytes_parse_as_the_tool_meant_them()
    {
        var header = ParallelsHeader.Parse(s_golden, "a.hds");
        Assert.Equal(new ParallelsHeader(true, 2, 16, 40, 2048, 10, 20480, 0, 2048, 0, 0), header);
        header.Validate("a.hds", 1 << 20);
    }

    [Fact]
    public void Every_field_survives_a_round_trip()
    {
        var header = new ParallelsHeader(false, 1, 2, 3, 4, 5, 0x0807060504030201, 7, 8, 9, 0x1817161514131211);
        var bytes = new byte[ParallelsHeader.Size];
        header.WriteTo(bytes);
        Assert.Equal(header, ParallelsHeader.Parse(bytes, "a.hds"));
    }

    [Fact]
    public void The_high_half_of_a_v1_size_does_not_count()
    {
        var header = new ParallelsHeader(false, 2, 0, 0, 1, 0, 0xFFFFFFFF_00000010, 0, 0, 0, 0);
        Assert.Equal(16u, header.DiskSizeSectors);
        Assert.Equal(0xFFFFFFFF_00000010, (header with { IsExtended = true }).DiskSizeSectors);
    }

    [Fact]
    public void Other_bytes_are_no_Parallels_image()
    {
        var bytes = (byte[])s_golden.Clone();
        bytes[0] ^= 1;
        var error = Assert.Throws<ImageFormatException>(() => ParallelsHeader.Parse(bytes, "a.hds"));
        Assert.Equal(BlockErrorKind.WrongFormat, error.Kind);
        Assert.Equal("a.hds: header at 0x0: magic: Image not in Parallels format", error.Message);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(15)]
    [InlineData(16)]
    [InlineData(63)]
    public void A_cut_header_is_refused(int length)
    {
        var error = Assert.Throws<ImageFormatException>(() => ParallelsHeader.Parse(s_golden.AsSpan(0, length), "a.hds"));
        Assert.Equal(length < 16 ? BlockErrorKind.WrongFormat : BlockErrorKind.CorruptImage, error.Kind);
        Assert.Equal(HostOffset.Zero, error.Offset);
    }
}
