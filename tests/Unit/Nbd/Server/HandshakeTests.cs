using System.Buffers;
using System.Buffers.Binary;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>Option haggling without sockets.</summary>
public sealed class HandshakeTests
{
    private static readonly NbdExport s_a = new(TestDisks.Memory(new byte[1 << 20]), "first disk");
    private static readonly NbdExport s_b = new(TestDisks.Memory(new byte[2 << 20]));

    [Fact]
    public void Go_tells_size_flags_and_block_sizes_and_begins()
    {
        var handshake = Two();
        var replies = Send(handshake, NbdOption.Go, new NbdExportQuery("a", NbdInfoRequests.Name | NbdInfoRequests.Description).ToArray(), out var step);
        Assert.Equal(HandshakeStep.Transmission, step);
        Assert.Same(s_a, handshake.Export);
        Assert.Equal(
            [
                "Info 0000 0000000000100000 0503", "Info 0001 61", "Info 0002 6669727374206469736b", "Info 0003 00000001 00001000 02000000", "Ack ",
            ],
            replies.Select(r => $"{r.Type} {Show(r)}"));
    }

    [Fact]
    public void Df_is_offered_with_structured_replies_only()
    {
        var handshake = Two();
        Assert.Equal(NbdTransmissionFlags.None, Offered(handshake, "a") & NbdTransmissionFlags.SendDf);
        Assert.Equal(NbdOptionReplyType.Ack, Assert.Single(Send(handshake, NbdOption.StructuredReply, [], out _)).Type);
        Assert.Equal(NbdTransmissionFlags.SendDf, Offered(handshake, "a") & NbdTransmissionFlags.SendDf);
    }

    [Fact]
    public void What_a_writable_export_offers()
    {
        var handshake = New(("w", s_a with { IsWritable = true }));
        Assert.Equal(
            NbdTransmissionFlags.HasFlags | NbdTransmissionFlags.SendFlush | NbdTransmissionFlags.SendFua | NbdTransmissionFlags.SendTrim
            | NbdTransmissionFlags.SendWriteZeroes | NbdTransmissionFlags.SendFastZero | NbdTransmissionFlags.SendCache | NbdTransmissionFlags.CanMultiConn,
            Offered(handshake, "w"));
    }

    [Fact]
    public void Extended_headers_rule_out_what_they_replace()
    {
        var handshake = Two();
        Assert.Equal(NbdOptionReplyType.ErrInvalid, Last(handshake, NbdOption.ExtendedHeaders, [0], out _));
        Assert.Equal(NbdOptionReplyType.Ack, Last(handshake, NbdOption.ExtendedHeaders, [], out _));
        Assert.Equal(NbdHeaderStyle.Extended, handshake.Style);
        Assert.Equal(NbdOptionReplyType.ErrExtendedHeadersRequired, Last(handshake, NbdOption.StructuredReply, [], out _));
        Assert.Equal(NbdHeaderStyle.Extended, handshake.Style);
        Assert.Equal(NbdTransmissionFlags.SendDf, Offered(handshake, "a") & (NbdTransmissionFlags.SendDf | NbdTransmissionFlags.BlockStatusPayload));
        Send(handshake, NbdOption.SetMetaContext, new NbdMetaContextQuery("a", ["base:allocation"]).ToArray(), out _);
        Assert.Equal(NbdTransmissionFlags.BlockStatusPayload, Offered(handshake, "a") & NbdTransmissionFlags.BlockStatusPayload);
        Assert.Equal(NbdTransmissionFlags.None, Offered(handshake, "b") & NbdTransmissionFlags.BlockStatusPayload);
        Assert.Equal(HandshakeStep.Close, handshake.Accept(new(NbdOption.ExportName, 1), "a"u8, new ArrayBufferWriter<byte>()));
    }

    [Fact]
    public void List_names_every_export()
    {
        var replies = Send(Two(), NbdOption.List, [], out var step);
        Assert.Equal(HandshakeStep.NextOption, step);
        Assert.Equal([NbdOptionReplyType.Server, NbdOptionReplyType.Server, NbdOptionReplyType.Ack], replies.Select(r => r.Type));
        Assert.Equal(Convert.FromHexString("0000000161" + "6669727374206469736b"), replies[0].Body);
        Assert.Equal(Convert.FromHexString("0000000162"), replies[1].Body);
    }

    [Fact]
    public void The_empty_name_is_the_only_export_or_none()
    {
        Assert.Equal(NbdOptionReplyType.ErrUnknown, Last(Two(), NbdOption.Go, new NbdExportQuery(string.Empty, 0).ToArray(), out var step));
        Assert.Equal(HandshakeStep.NextOption, step);
        var one = New(("a", s_a));
        Assert.Equal(NbdOptionReplyType.Ack, Last(one, NbdOption.Go, new NbdExportQuery(string.Empty, 0).ToArray(), out _));
        Assert.Same(s_a, one.Export);
    }

    [Fact]
    public void Info_does_not_begin()
    {
        var handshake = Two();
        Assert.Equal(NbdOptionReplyType.Ack, Last(handshake, NbdOption.Info, new NbdExportQuery("b", 0).ToArray(), out var step));
        Assert.Equal(HandshakeStep.NextOption, step);
        Assert.Null(handshake.Export);
    }

    [Theory]
    [InlineData(false, 134)]
    [InlineData(true, 10)]
    public void Export_name_answers_without_a_header(bool noZeroes, int size)
    {
        var handshake = Two();
        Assert.Equal(HandshakeStep.NextOption, handshake.AcceptClientFlags(noZeroes ? 3u : 1u));
        var reply = new ArrayBufferWriter<byte>();
        Assert.Equal(HandshakeStep.Transmission, handshake.Accept(new(NbdOption.ExportName, 1), "b"u8, reply));
        Assert.Equal(size, reply.WrittenCount);
        Assert.Equal(Convert.FromHexString("00000000002000000503"), reply.WrittenSpan[..10].ToArray());
    }

    [Theory]
    [InlineData("c")]
    [InlineData("")]
    [InlineData("a\0")]
    public void Export_name_that_is_unknown_hangs_up(string name)
    {
        var reply = new ArrayBufferWriter<byte>();
        var data = System.Text.Encoding.UTF8.GetBytes(name);
        Assert.Equal(HandshakeStep.Close, Two().Accept(new(NbdOption.ExportName, (uint)data.Length), data, reply));
        Assert.Equal(0, reply.WrittenCount);
    }

    [Theory]
    [InlineData(4095, NbdOptionReplyType.ErrUnknown)]
    [InlineData(4096, NbdOptionReplyType.ErrUnknown)]
    [InlineData(4097, NbdOptionReplyType.ErrInvalid)]
    internal void Long_names_are_refused(int length, NbdOptionReplyType expected)
    {
        // Written by hand: our own writer refuses such names.
        var data = new byte[4 + length + 2];
        BinaryPrimitives.WriteInt32BigEndian(data, length);
        data.AsSpan(4, length).Fill((byte)'n');
        foreach (var option in (NbdOption[])[NbdOption.Info, NbdOption.Go])
        {
            Assert.Equal(expected, Last(Two(), option, data, out var step));
            Assert.Equal(HandshakeStep.NextOption, step);
        }

        Assert.Equal(
            HandshakeStep.Close, Two().Accept(new(NbdOption.ExportName, (uint)length), data.AsSpan(4, length), new ArrayBufferWriter<byte>()));
    }

    [Fact]
    public void Exports_may_have_long_names()
    {
        var name = new string('n', 4096);
        Assert.Equal(NbdOptionReplyType.Ack, Last(New((name, s_a)), NbdOption.Go, new NbdExportQuery(name, NbdInfoRequests.Name).ToArray(), out _));
    }

    [Fact]
    public void Contexts_need_structured_replies_first() => Assert.Equal(
        NbdOptionReplyType.ErrInvalid, Last(Two(), NbdOption.SetMetaContext, new NbdMetaContextQuery("a", ["base:allocation"]).ToArray(), out _));

    [Fact]
    public void Contexts_are_void_for_another_export()
    {
        foreach (var (chosen, expected) in (ReadOnlySpan<(string, bool)>)[("a", true), ("b", false)])
        {
            var handshake = Two();
            Send(handshake, NbdOption.StructuredReply, [], out _);
            var replies = Send(handshake, NbdOption.SetMetaContext, new NbdMetaContextQuery("a", ["x:y", "base:allocation"]).ToArray(), out _);
            Assert.Equal(Convert.FromHexString("00000000626173653a616c6c6f636174696f6e"), replies[0].Body);
            Send(handshake, NbdOption.Go, new NbdExportQuery(chosen, 0).ToArray(), out _);
            Assert.Equal(expected, handshake.Contexts.Count == 1);
        }
    }

    [Fact]
    public void A_later_selection_replaces_the_earlier_one()
    {
        var handshake = Two();
        Send(handshake, NbdOption.StructuredReply, [], out _);
        Send(handshake, NbdOption.SetMetaContext, new NbdMetaContextQuery("a", ["base:allocation"]).ToArray(), out _);
        Assert.Single(Send(handshake, NbdOption.SetMetaContext, new NbdMetaContextQuery("a", []).ToArray(), out _));
        Send(handshake, NbdOption.Go, new NbdExportQuery("a", 0).ToArray(), out _);
        Assert.Empty(handshake.Contexts);
    }

    [Theory]
    [InlineData(new string[0], 1)]
    [InlineData(new[] { "base:" }, 1)]
    [InlineData(new[] { "base:allocation" }, 1)]
    [InlineData(new[] { "base:other", "qemu:dirty-bitmap:x" }, 0)]
    public void Listing_contexts_answers_what_matches(string[] queries, int count)
    {
        var handshake = Two();
        Send(handshake, NbdOption.StructuredReply, [], out _);
        Assert.Equal(count + 1, Send(handshake, NbdOption.ListMetaContext, new NbdMetaContextQuery("a", queries).ToArray(), out _).Count);
    }

    [Fact]
    public void Huge_counts_with_tiny_bodies_cost_nothing()
    {
        var handshake = Two();
        Send(handshake, NbdOption.StructuredReply, [], out _);
        foreach (var option in (NbdOption[])[NbdOption.ListMetaContext, NbdOption.SetMetaContext])
        {
            Assert.Equal(NbdOptionReplyType.ErrInvalid, Last(handshake, option, Convert.FromHexString("0000000161ffffffff"), out _));
            Assert.Equal(NbdOptionReplyType.ErrInvalid, Last(handshake, option, Convert.FromHexString("ffffffff"), out _));
        }
    }

    [Theory]
    [InlineData(4096, NbdOptionReplyType.Ack)]
    [InlineData(4097, NbdOptionReplyType.ErrInvalid)]
    internal void Names_of_contexts_have_the_same_limit(int length, NbdOptionReplyType expected)
    {
        // Written by hand: our own writer refuses such names.
        var data = new byte[4 + 1 + 4 + 4 + length];
        data[3] = 1;
        data[4] = (byte)'a';
        data[8] = 1;
        BinaryPrimitives.WriteInt32BigEndian(data.AsSpan(9), length);
        data.AsSpan(13).Fill((byte)'x');
        data[14] = (byte)':';
        foreach (var option in (NbdOption[])[NbdOption.ListMetaContext, NbdOption.SetMetaContext])
        {
            var handshake = Two();
            Send(handshake, NbdOption.StructuredReply, [], out _);
            Assert.Equal(expected, Last(handshake, option, data, out _));
        }
    }

    [Fact]
    public void More_queries_than_there_can_be_contexts_are_too_big()
    {
        var handshake = Two();
        Send(handshake, NbdOption.StructuredReply, [], out _);
        foreach (var (count, expected) in (ReadOnlySpan<(int, NbdOptionReplyType)>)[(256, NbdOptionReplyType.Ack), (257, NbdOptionReplyType.ErrTooBig)])
        {
            var queries = new NbdMetaContextQuery("a", [.. Enumerable.Repeat("base:allocation", count)]).ToArray();
            Assert.Equal(expected, Last(handshake, NbdOption.SetMetaContext, queries, out _));
        }
    }

    [Fact]
    public void Asking_what_contexts_another_export_has_changes_no_selection()
    {
        var handshake = Two();
        Send(handshake, NbdOption.StructuredReply, [], out _);
        Send(handshake, NbdOption.SetMetaContext, new NbdMetaContextQuery("a", ["base:allocation"]).ToArray(), out _);
        Assert.Equal(2, Send(handshake, NbdOption.ListMetaContext, new NbdMetaContextQuery("b", []).ToArray(), out _).Count);
        Send(handshake, NbdOption.Go, new NbdExportQuery("a", 0).ToArray(), out _);
        Assert.Equal([0u], handshake.Contexts);
    }

    [Fact]
    public void Nothing_of_a_disk_is_touched_before_a_client_has_named_it()
    {
        var untouched = new NbdExport(new UntouchableDisk());
        var handshake = New(("a", s_a), ("b", untouched));
        Send(handshake, NbdOption.List, [], out _);
        Send(handshake, NbdOption.StructuredReply, [], out _);
        Send(handshake, NbdOption.ListMetaContext, new NbdMetaContextQuery("b", []).ToArray(), out _);
        Send(handshake, NbdOption.SetMetaContext, new NbdMetaContextQuery("b", ["base:allocation"]).ToArray(), out _);
        Send(handshake, NbdOption.Info, new NbdExportQuery("a", 0).ToArray(), out _);
        Assert.ThrowsAny<InvalidOperationException>(() => Send(handshake, NbdOption.Info, new NbdExportQuery("b", 0).ToArray(), out _));

        // And without encryption, where it is demanded, by nothing.
        var strict = new ServerHandshake(new Dictionary<string, NbdExport> { ["b"] = untouched }, new() { Tls = Tls.TlsTestFiles.Server() });
        foreach (var option in (NbdOption[])[NbdOption.Info, NbdOption.Go])
        {
            Assert.Equal(NbdOptionReplyType.ErrTlsRequired, Last(strict, option, new NbdExportQuery("b", 0).ToArray(), out _));
        }

        Assert.Equal(HandshakeStep.Close, strict.Accept(new(NbdOption.ExportName, 1), "b"u8, new ArrayBufferWriter<byte>()));
    }

    [Theory]
    [InlineData(4u)]
    [InlineData(12u)]
    [InlineData(0u)]
    [InlineData(uint.MaxValue)]
    public void Unknown_options_are_unsupported(uint option)
    {
        Assert.Equal(NbdOptionReplyType.ErrUnsup, Last(Two(), (NbdOption)option, [1, 2, 3], out var step));
        Assert.Equal(HandshakeStep.NextOption, step);
    }

    [Fact]
    public void Options_that_take_no_data_refuse_some()
    {
        foreach (var option in (NbdOption[])[NbdOption.List, NbdOption.StructuredReply])
        {
            Assert.Equal(NbdOptionReplyType.ErrInvalid, Last(Two(), option, [0], out _));
        }
    }

    [Fact]
    public void Abort_is_acknowledged_and_ends()
    {
        Assert.Equal(NbdOptionReplyType.Ack, Last(Two(), NbdOption.Abort, [], out var step));
        Assert.Equal(HandshakeStep.Close, step);
    }

    [Fact]
    public void Options_without_end_are_cut_off()
    {
        var handshake = Two();
        for (var i = 0; i < new NbdServerOptions().MaxOptions; i++)
        {
            Send(handshake, NbdOption.List, [], out var step);
            Assert.Equal(HandshakeStep.NextOption, step);
        }

        Send(handshake, NbdOption.List, [], out var end);
        Assert.Equal(HandshakeStep.Close, end);
    }

    [Theory]
    [InlineData(4u)]
    [InlineData(0x80000001u)]
    public void Unknown_client_flags_hang_up(uint flags) => Assert.Equal(HandshakeStep.Close, Two().AcceptClientFlags(flags));

    [Fact]
    public void Random_options_never_break_it()
    {
        var seed = Environment.TickCount;
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        var random = new Random(seed);
        for (var round = 0; round < 20000; round++)
        {
            var handshake = Two();
            if (random.Next(2) == 0)
            {
                Send(handshake, NbdOption.StructuredReply, [], out _);
            }

            var data = new byte[random.Next(40)];
            foreach (ref var b in data.AsSpan())
            {
                b = random.Next(4) == 0 ? (byte)random.Next(256) : (byte)random.Next(4);
            }

            Send(handshake, (NbdOption)random.Next(12), data, out _);
        }
    }

    /// <summary>The flags that INFO tells.</summary>
    private static NbdTransmissionFlags Offered(ServerHandshake handshake, string export)
    {
        var body = Send(handshake, NbdOption.Info, new NbdExportQuery(export, 0).ToArray(), out _)[0].Body;
        return NbdExportDetails.Parse(body.AsSpan(2)).Flags;
    }

    private static ServerHandshake Two() => New(("a", s_a), ("b", s_b));

    private static ServerHandshake New(params (string Name, NbdExport Export)[] exports) =>
        new(exports.ToDictionary(e => e.Name, e => e.Export), new NbdServerOptions());

    private static NbdOptionReplyType Last(ServerHandshake handshake, NbdOption option, byte[] data, out HandshakeStep step) =>
        Send(handshake, option, data, out step)[^1].Type;

    private static List<(NbdOptionReplyType Type, byte[] Body)> Send(ServerHandshake handshake, NbdOption option, byte[] data, out HandshakeStep step)
    {
        var reply = new ArrayBufferWriter<byte>();
        step = handshake.Accept(new(option, (uint)data.Length), data, reply);
        var replies = new List<(NbdOptionReplyType, byte[])>();
        if (option == NbdOption.ExportName)
        {
            return replies;
        }

        var bytes = reply.WrittenSpan;
        while (bytes.Length > 0)
        {
            Assert.True(NbdOptionReplyHeader.TryParse(bytes, out var header));
            Assert.Equal(option, header.Option);
            replies.Add((header.Type, bytes.Slice(NbdOptionReplyHeader.Size, (int)header.Length).ToArray()));
            bytes = bytes[(NbdOptionReplyHeader.Size + (int)header.Length)..];
        }

        return replies;
    }

    private static string Show((NbdOptionReplyType Type, byte[] Body) reply)
    {
        var hex = Convert.ToHexStringLower(reply.Body);
        return hex.Length switch
        {
            0 => string.Empty,
            24 when hex.StartsWith("0000", StringComparison.Ordinal) => $"{hex[..4]} {hex[4..20]} {hex[20..]}",
            28 when hex.StartsWith("0003", StringComparison.Ordinal) => $"{hex[..4]} {hex[4..12]} {hex[12..20]} {hex[20..]}",
            _ => $"{hex[..4]} {hex[4..]}",
        };
    }

    /// <summary>A disk that may not be asked anything.</summary>
    private sealed class UntouchableDisk : BlockNode
    {
        public override string Name => throw Touched();

        public override string FormatName => throw Touched();

        public override long VirtualSize => throw Touched();

        public override IEnumerable<Storage> Storages => throw Touched();

        public override ValueTask<Extent> MapAsync(
            GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default) => throw Touched();

        public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => throw Touched();

        public override ValueTask<CheckReport> CheckAsync(
            Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) => throw Touched();

        public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

        private static InvalidOperationException Touched() => new("touched");
    }
}
