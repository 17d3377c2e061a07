using Platter.Nbd.Protocol;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Protocol;

/// <summary>Every structure against bytes written out by hand from proto.md (and seen the same between qemu-nbd 7.2 and libnbd 1.14).</summary>
public sealed class GoldenBytesTests
{
    [Fact]
    public void Greeting()
    {
        const string Bytes = "4e42444d41474943 49484156454f5054 0003";
        AssertWrites(Bytes, NbdGreeting.Size, b => new NbdGreeting(NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes).WriteTo(b));
        Assert.True(NbdGreeting.TryParse(Hex(Bytes), out var greeting));
        Assert.Equal(NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes, greeting.Flags);
        Assert.False(NbdGreeting.TryParse(Hex("4e42444d41474943 0000420281861253 0003"), out _));
    }

    [Fact]
    public void Oldstyle_greeting()
    {
        var bytes = new byte[NbdOldstyleGreeting.Size];
        Hex("4e42444d41474943 0000420281861253 0000000000100000 00000003").CopyTo(bytes, 0);
        Assert.True(NbdOldstyleGreeting.TryParse(bytes, out var greeting));
        Assert.Equal(new NbdOldstyleGreeting(1 << 20, NbdTransmissionFlags.HasFlags | NbdTransmissionFlags.ReadOnly), greeting);
    }

    [Fact]
    public void Option_header()
    {
        const string Bytes = "49484156454f5054 00000007 0000000c";
        var value = new NbdOptionHeader(NbdOption.Go, 12);
        AssertWrites(Bytes, NbdOptionHeader.Size, value.WriteTo);
        Assert.True(NbdOptionHeader.TryParse(Hex(Bytes), out var parsed));
        Assert.Equal(value, parsed);
        Assert.False(NbdOptionHeader.TryParse(Hex("49484156454f5055 00000007 0000000c"), out _));
    }

    [Fact]
    public void Option_reply_header()
    {
        const string Bytes = "0003e889045565a9 00000008 80000003 00000005";
        var value = new NbdOptionReplyHeader(NbdOption.StructuredReply, NbdOptionReplyType.ErrInvalid, 5);
        AssertWrites(Bytes, NbdOptionReplyHeader.Size, value.WriteTo);
        Assert.True(NbdOptionReplyHeader.TryParse(Hex(Bytes), out var parsed));
        Assert.Equal(value, parsed);
        Assert.True(parsed.IsError);
    }

    [Fact]
    public void Export_details()
    {
        const string Bytes = "0000000040000000 0583";
        var value = new NbdExportDetails(
            1 << 30,
            NbdTransmissionFlags.HasFlags | NbdTransmissionFlags.ReadOnly | NbdTransmissionFlags.SendDf
            | NbdTransmissionFlags.CanMultiConn | NbdTransmissionFlags.SendCache);
        AssertWrites(Bytes, NbdExportDetails.Size, value.WriteTo);
        Assert.Equal(value, NbdExportDetails.Parse(Hex(Bytes)));
    }

    [Fact]
    public void Block_sizes()
    {
        const string Bytes = "00000001 00001000 02000000";
        AssertWrites(Bytes, NbdBlockSizes.Size, NbdBlockSizes.Default.WriteTo);
        Assert.Equal(NbdBlockSizes.Default, NbdBlockSizes.Parse(Hex(Bytes)));
    }

    [Theory]
    [InlineData(1, 4096, 32 << 20, true)]
    [InlineData(512, 512, 512, true)]
    [InlineData(0, 4096, 1 << 20, false)]
    [InlineData(3, 4096, 1 << 20, false)]
    [InlineData(131072, 131072, 1 << 20, false)]
    [InlineData(1, 256, 1 << 20, false)]
    [InlineData(4096, 512, 1 << 20, false)]
    [InlineData(1, 4096, 2048, false)]
    public void Block_sizes_that_the_protocol_forbids_are_found(uint minimum, uint preferred, uint maximum, bool legal) =>
        Assert.Equal(legal, new NbdBlockSizes(minimum, preferred, maximum).FindProblem() is null);

    [Fact]
    public void Export_query()
    {
        const string Bytes = "00000003 c3a964 0003 0001 0002 0003";
        var value = new NbdExportQuery("éd", NbdInfoRequests.Name | NbdInfoRequests.Description | NbdInfoRequests.BlockSize);
        Assert.Equal(Hex(Bytes), value.ToArray());
        Assert.True(NbdExportQuery.TryParse(Hex(Bytes), out var parsed));
        Assert.Equal(value, parsed);
    }

    [Theory]
    [InlineData("")]
    [InlineData("00000003 6161")]
    [InlineData("00000001 61")]
    [InlineData("00000001 61 00")]
    [InlineData("00000001 61 0001")]
    [InlineData("00000001 61 0000 00")]
    [InlineData("00000001 61 ffff 0003")]
    [InlineData("00000001 00 0000")]
    [InlineData("00000001 ff 0000")]
    [InlineData("ffffffff 61 0000")]
    public void Malformed_export_queries_are_refused(string bytes) => Assert.False(NbdExportQuery.TryParse(Hex(bytes), out _));

    [Fact]
    public void Meta_context_query()
    {
        const string Bytes = "00000001 61 00000001 0000000f 626173653a616c6c6f636174696f6e";
        Assert.Equal(Hex(Bytes), new NbdMetaContextQuery("a", ["base:allocation"]).ToArray());
        Assert.Equal(NbdOptionReplyType.Ack, NbdMetaContextQuery.Parse(Hex(Bytes), out var parsed));
        Assert.Equal("a", parsed.ExportName);
        Assert.Equal(["base:allocation"], parsed.Queries);
    }

    [Theory]
    [InlineData("00000000 ffffffff")]
    [InlineData("00000000 00000002 00000002 613a")]
    [InlineData("00000000 00000001 00000001 61")]
    [InlineData("00000000 00000001 00000001 3a")]
    [InlineData("00000000 00000001 00000000")]
    [InlineData("00000000 00000001 00000002 613a 00")]
    [InlineData("00000000 000000")]
    public void Malformed_context_queries_are_refused(string bytes) =>
        Assert.Equal(NbdOptionReplyType.ErrInvalid, NbdMetaContextQuery.Parse(Hex(bytes), out _));

    [Fact]
    public void Request()
    {
        const string Bytes = "25609513 0004 0000 0102030405060708 0000000000010000 00001000";
        var value = new NbdRequest(NbdCommandFlags.DontFragment, NbdCommand.Read, 0x0102030405060708, 65536, 4096);
        foreach (var style in new[] { NbdHeaderStyle.Simple, NbdHeaderStyle.Structured })
        {
            AssertWrites(Bytes, NbdRequest.SizeOf(style), b => value.WriteTo(b, style));
            Assert.True(NbdRequest.TryParse(Hex(Bytes), style, out var parsed));
            Assert.Equal(value, parsed);
        }

        Assert.False(NbdRequest.TryParse(Hex("25609514 0004 0000 0102030405060708 0000000000010000 00001000"), NbdHeaderStyle.Simple, out _));
    }

    [Fact]
    public void Extended_request()
    {
        const string Bytes = "21e41c71 0020 0001 0102030405060708 0000000000010000 0000000200000000";
        var value = new NbdRequest(NbdCommandFlags.PayloadLength, NbdCommand.Write, 0x0102030405060708, 65536, 1UL << 33);
        AssertWrites(Bytes, NbdRequest.SizeOf(NbdHeaderStyle.Extended), b => value.WriteTo(b, NbdHeaderStyle.Extended));
        Assert.True(NbdRequest.TryParse(Hex(Bytes), NbdHeaderStyle.Extended, out var parsed));
        Assert.Equal(value, parsed);
        Assert.False(NbdRequest.TryParse(Hex("25609513 0020 0001 0102030405060708 0000000000010000 0000000200000000"), NbdHeaderStyle.Extended, out _));
    }

    [Fact]
    public void Payloads_follow_writes_and_what_has_the_flag_in_an_extended_header()
    {
        var write = new NbdRequest(NbdCommandFlags.None, NbdCommand.Write, 1, 0, 512);
        var status = new NbdRequest(NbdCommandFlags.PayloadLength, NbdCommand.BlockStatus, 1, 0, 12);
        Assert.True(write.HasPayload(NbdHeaderStyle.Simple));
        Assert.True(write.HasPayload(NbdHeaderStyle.Structured));
        Assert.True(write.HasPayload(NbdHeaderStyle.Extended));
        Assert.False(status.HasPayload(NbdHeaderStyle.Structured));
        Assert.True(status.HasPayload(NbdHeaderStyle.Extended));
    }

    [Fact]
    public void Status_query()
    {
        const string Bytes = "0000000200000000 00000001 00000007";
        var value = new NbdStatusQuery(1UL << 33, [1, 7]);
        Assert.Equal(Hex(Bytes), value.ToArray());
        Assert.True(NbdStatusQuery.TryParse(Hex(Bytes), out var parsed));
        Assert.Equal(1UL << 33, parsed.EffectLength);
        Assert.Equal([1u, 7u], parsed.ContextIds);
    }

    [Theory]
    [InlineData("")]
    [InlineData("00000002000000")]
    [InlineData("0000000200000000 000000")]
    [InlineData("0000000200000000 00000001 00000001")]
    public void Malformed_status_queries_are_refused(string bytes) => Assert.False(NbdStatusQuery.TryParse(Hex(bytes), out _));

    [Fact]
    public void Simple_reply()
    {
        const string Bytes = "67446698 00000016 0102030405060708";
        var value = new NbdSimpleReply(NbdError.Inval, 0x0102030405060708);
        AssertWrites(Bytes, NbdSimpleReply.Size, value.WriteTo);
        Assert.Equal(value, NbdSimpleReply.Parse(Hex(Bytes)));
    }

    [Theory]
    [InlineData(NbdHeaderStyle.Structured, "668e33ef 0001 8001 0102030405060708 00000006")]
    [InlineData(NbdHeaderStyle.Extended, "6e8a278c 0001 8001 0102030405060708 0000000000010000 0000000000000006")]
    internal void Chunk_header(NbdHeaderStyle style, string bytes)
    {
        var value = new NbdChunkHeader(NbdChunkFlags.Done, NbdChunkType.Error, 0x0102030405060708, style == NbdHeaderStyle.Extended ? 65536u : 0, 6);
        AssertWrites(bytes, NbdChunkHeader.SizeOf(style), b => value.WriteTo(b, style));
        Assert.Equal(value, NbdChunkHeader.Parse(Hex(bytes), style));
    }

    [Theory]
    [InlineData(NbdHeaderStyle.Structured, "668e33ef 0001 0001 0102030405060708 00001008 0000000000011000")]
    [InlineData(NbdHeaderStyle.Extended, "6e8a278c 0001 0001 0102030405060708 0000000000010000 0000000000001008 0000000000011000")]
    internal void Data_chunk(NbdHeaderStyle style, string bytes) => AssertWrites(
        bytes,
        NbdOffsetData.HeadSizeOf(style),
        b => new NbdOffsetData(0x0102030405060708, 65536, NbdChunkFlags.Done, 69632, 4096).WriteTo(b, style));

    [Theory]
    [InlineData(NbdHeaderStyle.Structured, "668e33ef 0000 0002 0102030405060708 0000000c 0000000000011000 00001000")]
    [InlineData(NbdHeaderStyle.Extended, "6e8a278c 0000 0002 0102030405060708 0000000000010000 000000000000000c 0000000000011000 00001000")]
    internal void Hole_chunk(NbdHeaderStyle style, string bytes)
    {
        AssertWrites(
            bytes,
            NbdChunkHeader.SizeOf(style) + NbdOffsetHole.PayloadSize,
            b => new NbdOffsetHole(0x0102030405060708, 65536, NbdChunkFlags.None, 69632, 4096).WriteTo(b, style));
        Assert.Equal((69632ul, 4096u), NbdOffsetHole.ParsePayload(Hex("0000000000011000 00001000")));
    }

    [Theory]
    [InlineData(NbdHeaderStyle.Structured, "668e33ef 0001 0005 0000000000000007 0000000c 00000001 00001000 00000003")]
    [InlineData(NbdHeaderStyle.Extended, "6e8a278c 0001 0006 0000000000000007 0000000000010000 0000000000000018 00000001 00000001 0000000000001000 0000000000000003")]
    internal void Status_chunk(NbdHeaderStyle style, string expected)
    {
        var head = NbdStatusDescriptor.HeadSizeOf(style);
        var bytes = new byte[head + NbdStatusDescriptor.SizeOf(style)];
        var value = new NbdStatusDescriptor(4096, (ulong)(NbdBlockState.Hole | NbdBlockState.Zero));
        value.WriteTo(bytes.AsSpan(head), style);
        var request = new NbdRequest(NbdCommandFlags.None, NbdCommand.BlockStatus, 7, 65536, 4096);
        NbdStatusDescriptor.WriteHead(bytes, style, request, NbdChunkFlags.Done, 1, 1);
        Assert.Equal(Hex(expected), bytes);
        Assert.Equal(value, NbdStatusDescriptor.Parse(bytes.AsSpan(head), style));
    }

    [Theory]
    [InlineData(NbdHeaderStyle.Structured, "668e33ef 0001 8001 0000000000000007 00000009 00000005 0003 626164")]
    [InlineData(NbdHeaderStyle.Extended, "6e8a278c 0001 8001 0000000000000007 0000000000010000 0000000000000009 00000005 0003 626164")]
    internal void Error_chunk(NbdHeaderStyle style, string expected)
    {
        var bytes = new byte[64];
        var request = new NbdRequest(NbdCommandFlags.None, NbdCommand.Read, 7, 65536, 4096);
        var length = new NbdErrorChunk(NbdError.IO, "bad").WriteFinalChunk(bytes, style, request);
        Assert.Equal(Hex(expected), bytes[..length]);
        var head = NbdChunkHeader.SizeOf(style);
        Assert.True(NbdErrorChunk.TryParse(bytes.AsSpan(head, length - head), NbdChunkType.Error, out var parsed));
        Assert.Equal(new NbdErrorChunk(NbdError.IO, "bad"), parsed);
    }

    [Theory]
    [InlineData("", NbdChunkType.Error)]
    [InlineData("00000005 0001", NbdChunkType.Error)]
    [InlineData("00000000 0000", NbdChunkType.Error)]
    [InlineData("00000005 0000", NbdChunkType.ErrorOffset)]
    [InlineData("00000005 0001 61 00000000000000", NbdChunkType.ErrorOffset)]
    internal void Malformed_error_chunks_are_refused(string bytes, NbdChunkType type) =>
        Assert.False(NbdErrorChunk.TryParse(Hex(bytes), type, out _));

    [Theory]
    [InlineData(0, true)]
    [InlineData(4095, true)]
    [InlineData(4096, true)]
    [InlineData(4097, false)]
    public void Strings_may_have_4096_bytes(int length, bool legal)
    {
        var text = new string('n', length);
        Assert.Equal(legal, NbdText.IsValid(text));
        Assert.Equal(legal, NbdText.TryRead(System.Text.Encoding.UTF8.GetBytes(text), out _));
    }

    private static byte[] Hex(string text) => Convert.FromHexString(text.Replace(" ", string.Empty, StringComparison.Ordinal));

    private static void AssertWrites(string expected, int size, WriteBytes write)
    {
        var bytes = new byte[size];
        write(bytes);
        Assert.Equal(Hex(expected), bytes);
    }

    private delegate void WriteBytes(Span<byte> bytes);
}
