using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Server;

/// <summary>The server's side of option haggling (proto.md, "Fixed newstyle negotiation"): bytes in, bytes and a decision out, no sockets.</summary>
/// <remarks>One per connection; not thread-safe. Nothing of an export is touched before a client has named it.</remarks>
internal sealed class ServerHandshake(IReadOnlyDictionary<string, NbdExport> exports, NbdServerOptions options)
{
    private const NbdHandshakeFlags Offered = NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes;

    private readonly bool _mayEncrypt = options.Tls is not null;
    private bool _noZeroes;
    private bool _encrypted;
    private int _optionsSeen;

    // The export that metadata contexts were agreed for; contexts are void if another one is chosen in the end.
    private NbdExport? _contextExport;
    private IReadOnlyList<uint> _contexts = [];

    /// <summary>The chosen export, once <see cref="HandshakeStep.Transmission"/> was reached.</summary>
    public NbdExport? Export { get; private set; }

    /// <summary>How requests and replies look.</summary>
    public NbdHeaderStyle Style { get; private set; }

    /// <summary>Ids of the metadata contexts that were agreed for the chosen export.</summary>
    public IReadOnlyList<uint> Contexts => Export is { } export ? ContextsOf(export) : [];

    /// <summary>Chooses an export without a word, for a peer that was told everything in another way (the kernel): simple replies, no contexts.</summary>
    public void Begin(NbdExport export) => Export = export;

    /// <summary>What goes out first.</summary>
    public static void Greet(IBufferWriter<byte> reply)
    {
        new NbdGreeting(Offered).WriteTo(reply.GetSpan(NbdGreeting.Size));
        reply.Advance(NbdGreeting.Size);
    }

    /// <summary>Takes the client's flags.</summary>
    /// <returns><see cref="HandshakeStep.Close"/> for flags we do not know, as the protocol demands.</returns>
    public HandshakeStep AcceptClientFlags(uint flags)
    {
        _noZeroes = (flags & (uint)NbdHandshakeFlags.NoZeroes) != 0;
        return (flags & ~(uint)Offered) == 0 ? HandshakeStep.NextOption : HandshakeStep.Close;
    }

    /// <summary>Answers an option whose data were too long to be read; the caller has skipped them.</summary>
    public HandshakeStep RefuseTooLong(NbdOptionHeader header, IBufferWriter<byte> reply) =>
        header.Option == NbdOption.ExportName || ++_optionsSeen > options.MaxOptions
            ? HandshakeStep.Close
            : Refuse(header.Option, NbdOptionReplyType.ErrTooBig, $"options may hold {options.MaxOptionBytes} bytes", reply);

    /// <summary>Answers one option.</summary>
    /// <param name="header">What it is.</param>
    /// <param name="data">Its data, all of them.</param>
    /// <param name="reply">Receives the answer, which must be sent whatever the result is.</param>
    public HandshakeStep Accept(NbdOptionHeader header, ReadOnlySpan<byte> data, IBufferWriter<byte> reply)
    {
        if (++_optionsSeen > options.MaxOptions)
        {
            return HandshakeStep.Close;
        }

        if (options.Tls is { IsRequired: true } && !_encrypted && header.Option is not (NbdOption.StartTls or NbdOption.Abort))
        {
            MissesTls = true;
            return header.Option == NbdOption.ExportName
                ? HandshakeStep.Close
                : Refuse(header.Option, NbdOptionReplyType.ErrTlsRequired, "this server demands TLS: STARTTLS comes first", reply);
        }

        switch (header.Option)
        {
            case NbdOption.ExportName:
                return AcceptExportName(data, reply);
            case NbdOption.Abort:
                Reply(header.Option, NbdOptionReplyType.Ack, [], reply);
                return HandshakeStep.Close;
            case NbdOption.StartTls:
                return AcceptStartTls(data, reply);
            case NbdOption.List:
                return AcceptList(data, reply);
            case NbdOption.Info or NbdOption.Go:
                return AcceptInfo(header.Option, data, reply);
            case NbdOption.StructuredReply:
                return Style == NbdHeaderStyle.Extended
                    ? Refuse(header.Option, NbdOptionReplyType.ErrExtendedHeadersRequired, "extended headers were agreed already", reply)
                    : AcceptStyle(header.Option, NbdHeaderStyle.Structured, data, reply);
            case NbdOption.ExtendedHeaders:
                return AcceptStyle(header.Option, NbdHeaderStyle.Extended, data, reply);
            case NbdOption.ListMetaContext or NbdOption.SetMetaContext:
                return AcceptMetaContext(header.Option, data, reply);
            default:
                return Refuse(header.Option, NbdOptionReplyType.ErrUnsup, "option not supported", reply);
        }
    }

    /// <summary>Whether the client was told that it must encrypt, and has not done so.</summary>
    public bool MissesTls { get; private set; }

    /// <summary>The connection is encrypted now: nothing of what was agreed before counts any more.</summary>
    public void BeginEncrypted()
    {
        _encrypted = true;
        MissesTls = false;
        Style = NbdHeaderStyle.Simple;
        _contextExport = null;
        _contexts = [];
    }

    private HandshakeStep AcceptStartTls(ReadOnlySpan<byte> data, IBufferWriter<byte> reply)
    {
        if (!_mayEncrypt)
        {
            return Refuse(NbdOption.StartTls, NbdOptionReplyType.ErrPolicy, "this server has no TLS", reply);
        }

        if (_encrypted || data.Length != 0)
        {
            return Refuse(NbdOption.StartTls, NbdOptionReplyType.ErrInvalid, _encrypted ? "TLS is in use already" : "this option takes no data", reply);
        }

        Reply(NbdOption.StartTls, NbdOptionReplyType.Ack, [], reply);
        return HandshakeStep.StartTls;
    }

    private HandshakeStep AcceptStyle(NbdOption option, NbdHeaderStyle style, ReadOnlySpan<byte> data, IBufferWriter<byte> reply)
    {
        if (data.Length != 0)
        {
            return Refuse(option, NbdOptionReplyType.ErrInvalid, "this option takes no data", reply);
        }

        Style = style;
        Reply(option, NbdOptionReplyType.Ack, [], reply);
        return HandshakeStep.NextOption;
    }

    private HandshakeStep AcceptExportName(ReadOnlySpan<byte> data, IBufferWriter<byte> reply)
    {
        // This option has no way to say no but to hang up.
        if (Style == NbdHeaderStyle.Extended || !NbdText.TryRead(data, out var name) || Find(name) is not { } export)
        {
            return HandshakeStep.Close;
        }

        Export = export;
        var size = NbdExportDetails.Size + (_noZeroes ? 0 : NbdProtocol.ExportNameZeroes);
        var bytes = reply.GetSpan(size)[..size];
        bytes.Clear();
        Details(export).WriteTo(bytes);
        reply.Advance(size);
        return HandshakeStep.Transmission;
    }

    private HandshakeStep AcceptList(ReadOnlySpan<byte> data, IBufferWriter<byte> reply)
    {
        if (data.Length != 0)
        {
            return Refuse(NbdOption.List, NbdOptionReplyType.ErrInvalid, "this option takes no data", reply);
        }

        foreach (var (name, export) in exports)
        {
            var body = new byte[NbdText.LengthSize + Encoding.UTF8.GetByteCount(name) + Encoding.UTF8.GetByteCount(export.Description ?? string.Empty)];
            var at = NbdText.WriteCounted(body, name);
            Encoding.UTF8.GetBytes(export.Description ?? string.Empty, body.AsSpan(at));
            Reply(NbdOption.List, NbdOptionReplyType.Server, body, reply);
        }

        Reply(NbdOption.List, NbdOptionReplyType.Ack, [], reply);
        return HandshakeStep.NextOption;
    }

    private HandshakeStep AcceptInfo(NbdOption option, ReadOnlySpan<byte> data, IBufferWriter<byte> reply)
    {
        if (!NbdExportQuery.TryParse(data, out var query))
        {
            return Refuse(option, NbdOptionReplyType.ErrInvalid, "malformed request for an export", reply);
        }

        if (Find(query.Name) is not { } export)
        {
            return Refuse(option, NbdOptionReplyType.ErrUnknown, "no such export", reply);
        }

        Span<byte> details = stackalloc byte[2 + NbdExportDetails.Size];
        BinaryPrimitives.WriteUInt16BigEndian(details, (ushort)NbdInfoType.Export);
        Details(export).WriteTo(details[2..]);
        Reply(option, NbdOptionReplyType.Info, details, reply);
        if ((query.Requests & NbdInfoRequests.Name) != 0)
        {
            ReplyText(option, NbdInfoType.Name, NameOf(export), reply);
        }

        if ((query.Requests & NbdInfoRequests.Description) != 0 && export.Description is { } description)
        {
            ReplyText(option, NbdInfoType.Description, description, reply);
        }

        // Always: a client may need it without having asked, and nothing here is required of it.
        Span<byte> sizes = stackalloc byte[2 + NbdBlockSizes.Size];
        BinaryPrimitives.WriteUInt16BigEndian(sizes, (ushort)NbdInfoType.BlockSize);
        new NbdBlockSizes(1, 4096, (uint)options.MaxRequestBytes).WriteTo(sizes[2..]);
        Reply(option, NbdOptionReplyType.Info, sizes, reply);
        Reply(option, NbdOptionReplyType.Ack, [], reply);
        if (option == NbdOption.Info)
        {
            return HandshakeStep.NextOption;
        }

        Export = export;
        return HandshakeStep.Transmission;
    }

    private HandshakeStep AcceptMetaContext(NbdOption option, ReadOnlySpan<byte> data, IBufferWriter<byte> reply)
    {
        var set = option == NbdOption.SetMetaContext;
        if (set)
        {
            // A new selection replaces the old one, even when it fails.
            _contextExport = null;
            _contexts = [];
        }

        if (Style == NbdHeaderStyle.Simple)
        {
            return Refuse(option, NbdOptionReplyType.ErrInvalid, "structured replies must be agreed first", reply);
        }

        var problem = NbdMetaContextQuery.Parse(data, out var query);
        if (problem != NbdOptionReplyType.Ack)
        {
            return Refuse(option, problem, problem == NbdOptionReplyType.ErrTooBig ? "too many queries" : "malformed queries", reply);
        }

        if (Find(query.ExportName) is not { } export)
        {
            return Refuse(option, NbdOptionReplyType.ErrUnknown, "no such export", reply);
        }

        var found = MetaContexts.Find(export, query.Queries, set);
        foreach (var id in found)
        {
            var name = MetaContexts.NameOf(export, id);
            var body = new byte[NbdProtocol.ContextIdSize + Encoding.UTF8.GetByteCount(name)];
            BinaryPrimitives.WriteUInt32BigEndian(body, set ? id : 0);
            Encoding.UTF8.GetBytes(name, body.AsSpan(NbdProtocol.ContextIdSize));
            Reply(option, NbdOptionReplyType.MetaContext, body, reply);
        }

        if (set && found.Count > 0)
        {
            _contextExport = export;
            _contexts = [.. found];
        }

        Reply(option, NbdOptionReplyType.Ack, [], reply);
        return HandshakeStep.NextOption;
    }

    /// <summary>An export by name; the empty name means the only one there is.</summary>
    private NbdExport? Find(string name)
    {
        if (exports.TryGetValue(name, out var export))
        {
            return export;
        }

        return name.Length == 0 && exports.Count == 1 ? exports.First().Value : null;
    }

    private string NameOf(NbdExport export)
    {
        foreach (var (name, known) in exports)
        {
            if (ReferenceEquals(known, export))
            {
                return name;
            }
        }

        return string.Empty;
    }

    private NbdExportDetails Details(NbdExport export) => new((ulong)export.Node.VirtualSize, FlagsOf(export));

    /// <summary>What an export offers to this client.</summary>
    public NbdTransmissionFlags FlagsOf(NbdExport export)
    {
        var flags = NbdTransmissionFlags.HasFlags | NbdTransmissionFlags.CanMultiConn | NbdTransmissionFlags.SendCache;
        flags |= export.IsWritable
            ? NbdTransmissionFlags.SendFlush | NbdTransmissionFlags.SendFua | NbdTransmissionFlags.SendTrim
                | NbdTransmissionFlags.SendWriteZeroes | NbdTransmissionFlags.SendFastZero
            : NbdTransmissionFlags.ReadOnly;
        flags |= Style == NbdHeaderStyle.Simple ? NbdTransmissionFlags.None : NbdTransmissionFlags.SendDf;
        return flags | (Style == NbdHeaderStyle.Extended && ContextsOf(export).Count > 0 ? NbdTransmissionFlags.BlockStatusPayload : NbdTransmissionFlags.None);
    }

    private IReadOnlyList<uint> ContextsOf(NbdExport export) => ReferenceEquals(_contextExport, export) ? _contexts : [];

    private static HandshakeStep Refuse(NbdOption option, NbdOptionReplyType type, string message, IBufferWriter<byte> reply)
    {
        Reply(option, type, Encoding.UTF8.GetBytes(message), reply);
        return HandshakeStep.NextOption;
    }

    private static void ReplyText(NbdOption option, NbdInfoType type, string text, IBufferWriter<byte> reply)
    {
        var body = new byte[2 + Encoding.UTF8.GetByteCount(text)];
        BinaryPrimitives.WriteUInt16BigEndian(body, (ushort)type);
        Encoding.UTF8.GetBytes(text, body.AsSpan(2));
        Reply(option, NbdOptionReplyType.Info, body, reply);
    }

    private static void Reply(NbdOption option, NbdOptionReplyType type, ReadOnlySpan<byte> body, IBufferWriter<byte> reply)
    {
        new NbdOptionReplyHeader(option, type, (uint)body.Length).WriteTo(reply.GetSpan(NbdOptionReplyHeader.Size));
        reply.Advance(NbdOptionReplyHeader.Size);
        reply.Write(body);
    }
}
