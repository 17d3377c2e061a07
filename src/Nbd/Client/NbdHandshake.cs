using System.Buffers.Binary;
using System.Text;
using Platter.Core.Errors;
using Platter.Nbd.Protocol;
using Platter.Nbd.Tls;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Client;

/// <summary>The client's side of the fixed newstyle handshake (proto.md, "Handshake").</summary>
/// <remarks>
/// Every reply is checked against the option it answers and bounded before it is read. Servers that do not know an option answer
/// ERR_UNSUP and get what they know: structured replies instead of extended headers, simple ones instead of those, EXPORT_NAME instead of GO.
/// Encryption alone has no such way back: whoever asks for it gets it or an error.
/// </remarks>
internal sealed partial class NbdHandshake(SocketWire wire, string name)
{
    // A listed export, the longest reply: a length, a name and a description.
    private const int MaxReplyBytes = NbdText.LengthSize + (2 * NbdProtocol.MaxStringBytes);

    private const int MaxInfoReplies = 64;
    private const int MaxListedExports = 100_000;
    private const long MaxListBytes = 16 << 20;

    private readonly byte[] _head = new byte[NbdOptionReplyHeader.Size];
    private bool _fixed;
    private bool _noZeroes;

    /// <summary>The connection as it is now: encrypted after <see cref="StartTlsAsync"/>.</summary>
    public NbdWire Wire { get; private set; } = wire;

    /// <summary>What is received over it.</summary>
    public NbdInput Input { get; private set; } = new(wire);

    /// <summary>Whether a goodbye is in order: options can be sent, none is being answered, and the server has kept to the rules.</summary>
    public bool MayAbort { get; private set; }

    /// <summary>Reads the server's greeting and answers it.</summary>
    public async ValueTask GreetAsync(CancellationToken cancellationToken)
    {
        var bytes = new byte[NbdGreeting.Size];
        await Input.ReadAsync(bytes, cancellationToken).ConfigureAwait(false);
        if (!NbdGreeting.TryParse(bytes, out var greeting))
        {
            var oldstyle = BinaryPrimitives.ReadUInt64BigEndian(bytes) == NbdProtocol.InitMagic
                && BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(8)) == NbdProtocol.OldstyleMagic;
            throw oldstyle
                ? new BlockException(BlockErrorKind.Unsupported, $"{name}: the server speaks the oldstyle handshake, which has no export names and is not supported")
                : Violation($"this is no NBD server: its greeting starts with 0x{BinaryPrimitives.ReadUInt64BigEndian(bytes):x16}");
        }

        _fixed = (greeting.Flags & NbdHandshakeFlags.FixedNewstyle) != 0;
        _noZeroes = (greeting.Flags & NbdHandshakeFlags.NoZeroes) != 0;
        var flags = new byte[NbdGreeting.ClientFlagsSize];
        BinaryPrimitives.WriteUInt32BigEndian(flags, (uint)(greeting.Flags & (NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes)));
        await Wire.SendAsync(flags, cancellationToken).ConfigureAwait(false);
        MayAbort = _fixed;
    }

    /// <summary>Encrypts the connection; nothing but the greeting may come before it.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/> or another: the server does not want to. There is no going on in plain text:
    /// whoever sits between could have said so (CVE-2019-14842).</exception>
    public async ValueTask StartTlsAsync(NbdClientTls tls, string? hostName, CancellationToken cancellationToken)
    {
        if (!_fixed)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{name}: the server's handshake is too old for TLS");
        }

        await SendOptionAsync(NbdOption.StartTls, [], cancellationToken).ConfigureAwait(false);
        var (header, data) = await ReadReplyAsync(NbdOption.StartTls, cancellationToken).ConfigureAwait(false);
        if (header.IsError)
        {
            throw Refused(header, data, "does not start TLS");
        }

        CheckEmptyAck(header);

        // Who can write between the lines of a plain connection must not put words into the encrypted one.
        if (!Input.IsEmpty)
        {
            throw Violation("plain text came behind the agreement to encrypt");
        }

        Wire = await tls.ConnectAsync(wire, hostName, cancellationToken).ConfigureAwait(false);
        Input = new(Wire);
        MayAbort = true;
    }

    /// <summary>Agrees on everything we can use and enters the transmission phase.</summary>
    /// <param name="exportName">The export.</param>
    /// <param name="contexts">Metadata contexts to ask for; those that the server does not have are left out.</param>
    /// <param name="best">The style of headers to begin with.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async ValueTask<NbdExportInfo> EnterAsync(
        string exportName, IReadOnlyList<string> contexts, NbdHeaderStyle best, CancellationToken cancellationToken)
    {
        if (!_fixed)
        {
            return await EnterByNameAsync(exportName, NbdHeaderStyle.Simple, [], cancellationToken).ConfigureAwait(false);
        }

        var style = await AgreeOnStyleAsync(best, cancellationToken).ConfigureAwait(false);
        var selected = style == NbdHeaderStyle.Simple || contexts.Count == 0
            ? [] : await SelectContextsAsync(exportName, contexts, cancellationToken).ConfigureAwait(false);
        return await GoAsync(exportName, style, selected, cancellationToken).ConfigureAwait(false) is { } export ? export
            : style != NbdHeaderStyle.Extended ? await EnterByNameAsync(exportName, style, selected, cancellationToken).ConfigureAwait(false)
            : throw Violation("the server has extended headers, but not the option GO");
    }

    /// <summary>Asks for the server's exports.</summary>
    public async ValueTask<IReadOnlyList<NbdListedExport>> ListAsync(CancellationToken cancellationToken)
    {
        if (!_fixed)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{name}: the server's handshake is too old to list exports");
        }

        var exports = new List<NbdListedExport>();
        long bytes = 0;
        await SendOptionAsync(NbdOption.List, [], cancellationToken).ConfigureAwait(false);
        while (true)
        {
            var (header, data) = await ReadReplyAsync(NbdOption.List, cancellationToken).ConfigureAwait(false);
            switch (header.Type)
            {
                case NbdOptionReplyType.Server:
                    exports.Add(ParseListed(data));
                    bytes += data.Length;
                    if (exports.Count > MaxListedExports || bytes > MaxListBytes)
                    {
                        throw new BlockException(BlockErrorKind.LimitExceeded, $"{name}: the server lists more than {MaxListedExports} exports or {MaxListBytes} bytes");
                    }

                    break;
                case NbdOptionReplyType.Ack:
                    CheckEmptyAck(header);
                    return exports;
                default:
                    throw Refused(header, data, "does not list its exports");
            }
        }
    }

    /// <summary>Leaves during the handshake, if <see cref="MayAbort"/> or after a list; the server may close without an answer, so none is awaited.</summary>
    public ValueTask AbortAsync(CancellationToken cancellationToken) => SendOptionAsync(NbdOption.Abort, [], cancellationToken);

    private async ValueTask<NbdHeaderStyle> AgreeOnStyleAsync(NbdHeaderStyle best, CancellationToken cancellationToken) =>
        best == NbdHeaderStyle.Extended && await TryAgreeAsync(NbdOption.ExtendedHeaders, "refuses extended headers", cancellationToken).ConfigureAwait(false)
            ? NbdHeaderStyle.Extended
            : best != NbdHeaderStyle.Simple && await TryAgreeAsync(NbdOption.StructuredReply, "refuses structured replies", cancellationToken).ConfigureAwait(false)
                ? NbdHeaderStyle.Structured
                : NbdHeaderStyle.Simple;

    private async ValueTask<bool> TryAgreeAsync(NbdOption option, string refusal, CancellationToken cancellationToken)
    {
        await SendOptionAsync(option, [], cancellationToken).ConfigureAwait(false);
        var (header, data) = await ReadReplyAsync(option, cancellationToken).ConfigureAwait(false);
        if (header.IsError)
        {
            ThrowIfFinal(header, data, refusal);
            return false;
        }

        CheckEmptyAck(header);
        return true;
    }

    private async ValueTask<IReadOnlyList<NbdMetaContext>> SelectContextsAsync(
        string exportName, IReadOnlyList<string> wanted, CancellationToken cancellationToken)
    {
        var query = new NbdMetaContextQuery(exportName, wanted);
        await SendOptionAsync(NbdOption.SetMetaContext, query.ToArray(), cancellationToken).ConfigureAwait(false);
        var selected = new List<NbdMetaContext>();
        while (true)
        {
            var (header, data) = await ReadReplyAsync(NbdOption.SetMetaContext, cancellationToken).ConfigureAwait(false);
            if (header.IsError)
            {
                // An unknown export also fails here; GO tells it better.
                ThrowIfFinal(header, data, "refuses to tell data from holes");
                return [];
            }

            if (header.Type != NbdOptionReplyType.MetaContext)
            {
                CheckEmptyAck(header);

                // In our order, whatever the server's: all connections count them alike.
                return [.. wanted.SelectMany(name => selected.Where(context => context.Name == name))];
            }

            var context = ParseContext(data);
            if (!wanted.Contains(context.Name) || selected.Exists(known => known.Name == context.Name || known.Id == context.Id))
            {
                throw Violation("the server selected a metadata context that was not asked for");
            }

            selected.Add(context);
        }
    }

    private NbdMetaContext ParseContext(ReadOnlySpan<byte> data) =>
        data.Length > NbdProtocol.ContextIdSize && NbdText.TryRead(data[NbdProtocol.ContextIdSize..], out var context)
            ? new(context, BinaryPrimitives.ReadUInt32BigEndian(data))
            : throw Violation("a metadata context is malformed");

    /// <returns>Null when the server does not know GO.</returns>
    private async ValueTask<NbdExportInfo?> GoAsync(string exportName, NbdHeaderStyle style, IReadOnlyList<NbdMetaContext> contexts, CancellationToken cancellationToken) =>
        await AskAboutAsync(NbdOption.Go, exportName, NbdInfoRequests.BlockSize, cancellationToken).ConfigureAwait(false) is { } answers
            ? Agree(answers.Details, answers.BlockSizes, style, contexts)
            : null;

    /// <returns>Null when the server does not know the option.</returns>
    private async ValueTask<InfoAnswers?> AskAboutAsync(NbdOption option, string exportName, NbdInfoRequests requests, CancellationToken cancellationToken)
    {
        await SendOptionAsync(option, new NbdExportQuery(exportName, requests).ToArray(), cancellationToken).ConfigureAwait(false);
        var answers = new InfoAnswers();
        for (var replies = 0; replies < MaxInfoReplies; replies++)
        {
            var (header, data) = await ReadReplyAsync(option, cancellationToken).ConfigureAwait(false);
            switch (header.Type)
            {
                case NbdOptionReplyType.Info:
                    ParseInfo(data, answers);
                    break;
                case NbdOptionReplyType.Ack:
                    CheckEmptyAck(header);
                    return answers.IsComplete ? answers : throw Violation($"the server accepted {option.ToString().ToUpperInvariant()} without describing the export");
                case NbdOptionReplyType.ErrUnsup:
                    return null;
                case NbdOptionReplyType.ErrUnknown:
                    throw new BlockException(BlockErrorKind.NotFound, $"{name}: the server has no export '{SafeText.Clean(exportName, 256)}'{Said(data)}");
                default:
                    throw Refused(header, data, $"refuses the export '{SafeText.Clean(exportName, 256)}'");
            }
        }

        throw Violation($"the server sent more than {MaxInfoReplies} replies to {option}");
    }

    private async ValueTask<NbdExportInfo> EnterByNameAsync(
        string exportName, NbdHeaderStyle style, IReadOnlyList<NbdMetaContext> contexts, CancellationToken cancellationToken)
    {
        await SendOptionAsync(NbdOption.ExportName, Encoding.UTF8.GetBytes(exportName), cancellationToken).ConfigureAwait(false);
        var bytes = new byte[NbdExportDetails.Size + (_noZeroes ? 0 : NbdProtocol.ExportNameZeroes)];
        try
        {
            await Input.ReadAsync(bytes, cancellationToken).ConfigureAwait(false);
        }
        catch (EndOfStreamException e)
        {
            // The only way to say no to EXPORT_NAME is to hang up.
            throw new BlockException(
                BlockErrorKind.NotFound, $"{name}: the server closed the connection when asked for the export '{SafeText.Clean(exportName, 256)}'", e);
        }

        return Agree(NbdExportDetails.Parse(bytes), sizes: null, style, contexts);
    }

    private void ParseInfo(ReadOnlySpan<byte> data, InfoAnswers answers)
    {
        if (data.Length < 2)
        {
            throw Violation("an INFO reply is shorter than its type");
        }

        var body = data[2..];
        switch ((NbdInfoType)BinaryPrimitives.ReadUInt16BigEndian(data))
        {
            case NbdInfoType.Export:
                answers.Details = body.Length == NbdExportDetails.Size
                    ? NbdExportDetails.Parse(body)
                    : throw Violation($"the description of the export is {body.Length} bytes long, not {NbdExportDetails.Size}");
                answers.IsComplete = true;
                break;
            case NbdInfoType.BlockSize:
                answers.BlockSizes = body.Length == NbdBlockSizes.Size
                    ? NbdBlockSizes.Parse(body)
                    : throw Violation($"the block sizes are {body.Length} bytes long, not {NbdBlockSizes.Size}");
                break;
            case NbdInfoType.Description:
                answers.Description = NbdText.TryRead(body, out var text) ? text : throw Violation("the description of the export is malformed");
                break;
        }
    }

    private NbdExportInfo Agree(NbdExportDetails details, NbdBlockSizes? sizes, NbdHeaderStyle style, IReadOnlyList<NbdMetaContext> contexts)
    {
        if (details.ExportSize > long.MaxValue)
        {
            throw Violation($"export size {details.ExportSize}: is above 2^63-1");
        }

        if ((details.Flags & NbdTransmissionFlags.HasFlags) == 0)
        {
            throw Violation($"transmission flags 0x{(ushort)details.Flags:x}: HAS_FLAGS is not set");
        }

        if (sizes?.FindProblem() is { } problem)
        {
            throw Violation(problem);
        }

        // A server that names no sizes should take single bytes; whole sectors are what the protocol advises to ask it for.
        return new((long)details.ExportSize, details.Flags, sizes ?? NbdBlockSizes.Default with { Minimum = 512 }, style, contexts);
    }

    private sealed class InfoAnswers
    {
        public bool IsComplete { get; set; }

        public NbdExportDetails Details { get; set; }

        public NbdBlockSizes? BlockSizes { get; set; }

        public string? Description { get; set; }
    }

    private NbdListedExport ParseListed(ReadOnlySpan<byte> data) =>
        NbdText.TryReadCounted(ref data, out var export) && NbdText.TryRead(data, out var description)
            ? new(export, description)
            : throw Violation("a listed export is malformed");

    private async ValueTask SendOptionAsync(NbdOption option, byte[] data, CancellationToken cancellationToken)
    {
        MayAbort = false;
        var bytes = new byte[NbdOptionHeader.Size + data.Length];
        new NbdOptionHeader(option, (uint)data.Length).WriteTo(bytes);
        data.CopyTo(bytes, NbdOptionHeader.Size);
        await Wire.SendAsync(bytes, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<(NbdOptionReplyHeader Header, byte[] Data)> ReadReplyAsync(NbdOption option, CancellationToken cancellationToken)
    {
        await Input.ReadAsync(_head, cancellationToken).ConfigureAwait(false);
        if (!NbdOptionReplyHeader.TryParse(_head, out var header))
        {
            throw Violation($"an option reply starts with 0x{BinaryPrimitives.ReadUInt64BigEndian(_head):x16}");
        }

        if (header.Option != option)
        {
            throw Violation($"a reply to option {(uint)header.Option} came, where {option} was asked");
        }

        var limit = header.IsError ? NbdProtocol.MaxStringBytes : MaxReplyBytes;
        if (header.Length > limit)
        {
            throw Violation($"a reply to {option} claims {header.Length} bytes, more than {limit}");
        }

        var data = new byte[header.Length];
        await Input.ReadAsync(data, cancellationToken).ConfigureAwait(false);
        MayAbort = header.IsError;
        return (header, data);
    }

    private void CheckEmptyAck(NbdOptionReplyHeader header)
    {
        if (header.Type != NbdOptionReplyType.Ack || header.Length != 0)
        {
            throw Violation($"a reply of type {(uint)header.Type} and {header.Length} bytes to {header.Option}");
        }
    }

    // Most errors to an optional wish only mean to do without; these two would come again.
    private void ThrowIfFinal(NbdOptionReplyHeader header, byte[] data, string what)
    {
        if (header.Type is NbdOptionReplyType.ErrTlsRequired or NbdOptionReplyType.ErrShutdown)
        {
            throw Refused(header, data, what);
        }
    }

    private BlockException Refused(NbdOptionReplyHeader header, byte[] data, string what)
    {
        if (header.Type == NbdOptionReplyType.ErrTlsRequired)
        {
            return new(BlockErrorKind.Unsupported, $"{name}: the server demands TLS: use nbds:// or nbds+unix://{Said(data)}");
        }

        var (kind, why) = header.Type switch
        {
            NbdOptionReplyType.ErrUnsup => (BlockErrorKind.Unsupported, "it does not know the option"),
            NbdOptionReplyType.ErrPlatform => (BlockErrorKind.Unsupported, "it cannot on its platform"),
            NbdOptionReplyType.ErrPolicy => (BlockErrorKind.AccessDenied, "its policy forbids it"),
            NbdOptionReplyType.ErrShutdown => (BlockErrorKind.Protocol, "it is shutting down"),
            NbdOptionReplyType.ErrUnknown => (BlockErrorKind.NotFound, "there is no such export"),
            _ => (BlockErrorKind.Protocol, $"it answered {header.Option} with 0x{(uint)header.Type:x}"),
        };
        return new(kind, $"{name}: the server {what}: {why}{Said(data)}");
    }

    private static string Said(ReadOnlySpan<byte> data) =>
        data.Length == 0 ? string.Empty : $" (it says: {SafeText.Clean(Encoding.UTF8.GetString(data), 512)})";

    private BlockException Violation(string what) => new(BlockErrorKind.Protocol, $"{name}: {what}");
}
