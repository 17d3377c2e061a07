using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using Platter.Core.Errors;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>The client's side of the fixed newstyle handshake (proto.md, "Handshake").</summary>
/// <remarks>
/// Every reply is checked against the option it answers and bounded before it is read. Servers that do not know an option answer
/// ERR_UNSUP and get what they know: simple replies instead of structured ones, EXPORT_NAME instead of GO.
/// </remarks>
internal sealed class NbdHandshake(Socket socket, NbdInput input, string name)
{
    // A listed export, the longest reply: a length, a name and a description.
    private const int MaxReplyBytes = NbdText.LengthSize + (2 * NbdProtocol.MaxStringBytes);

    private const int MaxInfoReplies = 64;
    private const int MaxListedExports = 100_000;
    private const long MaxListBytes = 16 << 20;

    private readonly byte[] _head = new byte[NbdOptionReplyHeader.Size];
    private bool _fixed;
    private bool _noZeroes;

    /// <summary>Whether a goodbye is in order: options can be sent, none is being answered, and the server has kept to the rules.</summary>
    public bool MayAbort { get; private set; }

    /// <summary>Reads the server's greeting and answers it.</summary>
    public async ValueTask GreetAsync(CancellationToken cancellationToken)
    {
        var bytes = new byte[NbdGreeting.Size];
        await input.ReadAsync(bytes, cancellationToken).ConfigureAwait(false);
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
        await SendAsync(flags, cancellationToken).ConfigureAwait(false);
        MayAbort = _fixed;
    }

    /// <summary>Agrees on everything we can use and enters the transmission phase.</summary>
    public async ValueTask<NbdExportInfo> EnterAsync(string exportName, CancellationToken cancellationToken)
    {
        if (!_fixed)
        {
            return await EnterByNameAsync(exportName, structured: false, context: null, cancellationToken).ConfigureAwait(false);
        }

        var structured = await AskForStructuredRepliesAsync(cancellationToken).ConfigureAwait(false);
        var context = structured ? await SelectAllocationAsync(exportName, cancellationToken).ConfigureAwait(false) : null;
        return await GoAsync(exportName, structured, context, cancellationToken).ConfigureAwait(false)
            ?? await EnterByNameAsync(exportName, structured, context, cancellationToken).ConfigureAwait(false);
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

    private async ValueTask<bool> AskForStructuredRepliesAsync(CancellationToken cancellationToken)
    {
        await SendOptionAsync(NbdOption.StructuredReply, [], cancellationToken).ConfigureAwait(false);
        var (header, data) = await ReadReplyAsync(NbdOption.StructuredReply, cancellationToken).ConfigureAwait(false);
        if (header.IsError)
        {
            ThrowIfFinal(header, data, "refuses structured replies");
            return false;
        }

        CheckEmptyAck(header);
        return true;
    }

    private async ValueTask<uint?> SelectAllocationAsync(string exportName, CancellationToken cancellationToken)
    {
        var query = new NbdMetaContextQuery(exportName, [NbdProtocol.AllocationContext]);
        await SendOptionAsync(NbdOption.SetMetaContext, query.ToArray(), cancellationToken).ConfigureAwait(false);
        uint? context = null;
        while (true)
        {
            var (header, data) = await ReadReplyAsync(NbdOption.SetMetaContext, cancellationToken).ConfigureAwait(false);
            if (header.IsError)
            {
                // An unknown export also fails here; GO tells it better.
                ThrowIfFinal(header, data, "refuses to tell data from holes");
                return null;
            }

            if (header.Type != NbdOptionReplyType.MetaContext)
            {
                CheckEmptyAck(header);
                return context;
            }

            if (data.Length < NbdProtocol.ContextIdSize
                || !NbdText.TryRead(data.AsSpan(NbdProtocol.ContextIdSize), out var selected)
                || selected != NbdProtocol.AllocationContext || context is not null)
            {
                throw Violation("the server selected a metadata context that was not asked for");
            }

            context = BinaryPrimitives.ReadUInt32BigEndian(data);
        }
    }

    /// <returns>Null when the server does not know GO.</returns>
    private async ValueTask<NbdExportInfo?> GoAsync(string exportName, bool structured, uint? context, CancellationToken cancellationToken)
    {
        var query = new NbdExportQuery(exportName, NbdInfoRequests.BlockSize);
        await SendOptionAsync(NbdOption.Go, query.ToArray(), cancellationToken).ConfigureAwait(false);
        NbdExportDetails? details = null;
        NbdBlockSizes? sizes = null;
        for (var replies = 0; replies < MaxInfoReplies; replies++)
        {
            var (header, data) = await ReadReplyAsync(NbdOption.Go, cancellationToken).ConfigureAwait(false);
            switch (header.Type)
            {
                case NbdOptionReplyType.Info:
                    ParseInfo(data, ref details, ref sizes);
                    break;
                case NbdOptionReplyType.Ack:
                    CheckEmptyAck(header);
                    return Agree(details ?? throw Violation("the server accepted GO without describing the export"), sizes, structured, context);
                case NbdOptionReplyType.ErrUnsup:
                    return null;
                case NbdOptionReplyType.ErrUnknown:
                    throw new BlockException(BlockErrorKind.NotFound, $"{name}: the server has no export '{SafeText.Clean(exportName, 256)}'{Said(data)}");
                default:
                    throw Refused(header, data, $"refuses the export '{SafeText.Clean(exportName, 256)}'");
            }
        }

        throw Violation($"the server sent more than {MaxInfoReplies} replies to GO");
    }

    private async ValueTask<NbdExportInfo> EnterByNameAsync(string exportName, bool structured, uint? context, CancellationToken cancellationToken)
    {
        await SendOptionAsync(NbdOption.ExportName, Encoding.UTF8.GetBytes(exportName), cancellationToken).ConfigureAwait(false);
        var bytes = new byte[NbdExportDetails.Size + (_noZeroes ? 0 : NbdProtocol.ExportNameZeroes)];
        try
        {
            await input.ReadAsync(bytes, cancellationToken).ConfigureAwait(false);
        }
        catch (EndOfStreamException e)
        {
            // The only way to say no to EXPORT_NAME is to hang up.
            throw new BlockException(
                BlockErrorKind.NotFound, $"{name}: the server closed the connection when asked for the export '{SafeText.Clean(exportName, 256)}'", e);
        }

        return Agree(NbdExportDetails.Parse(bytes), sizes: null, structured, context);
    }

    private void ParseInfo(ReadOnlySpan<byte> data, ref NbdExportDetails? details, ref NbdBlockSizes? sizes)
    {
        if (data.Length < 2)
        {
            throw Violation("an INFO reply is shorter than its type");
        }

        var body = data[2..];
        switch ((NbdInfoType)BinaryPrimitives.ReadUInt16BigEndian(data))
        {
            case NbdInfoType.Export:
                details = body.Length == NbdExportDetails.Size
                    ? NbdExportDetails.Parse(body)
                    : throw Violation($"the description of the export is {body.Length} bytes long, not {NbdExportDetails.Size}");
                break;
            case NbdInfoType.BlockSize:
                sizes = body.Length == NbdBlockSizes.Size
                    ? NbdBlockSizes.Parse(body)
                    : throw Violation($"the block sizes are {body.Length} bytes long, not {NbdBlockSizes.Size}");
                break;
        }
    }

    private NbdExportInfo Agree(NbdExportDetails details, NbdBlockSizes? sizes, bool structured, uint? context)
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
        return new((long)details.ExportSize, details.Flags, sizes ?? NbdBlockSizes.Default with { Minimum = 512 }, structured ? NbdHeaderStyle.Structured : NbdHeaderStyle.Simple, context);
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
        await SendAsync(bytes, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        while (bytes.Length > 0)
        {
            bytes = bytes[await socket.SendAsync(bytes, SocketFlags.None, cancellationToken).ConfigureAwait(false)..];
        }
    }

    private async ValueTask<(NbdOptionReplyHeader Header, byte[] Data)> ReadReplyAsync(NbdOption option, CancellationToken cancellationToken)
    {
        await input.ReadAsync(_head, cancellationToken).ConfigureAwait(false);
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
        await input.ReadAsync(data, cancellationToken).ConfigureAwait(false);
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
        var (kind, why) = header.Type switch
        {
            NbdOptionReplyType.ErrTlsRequired => (BlockErrorKind.Unsupported, "it demands TLS, which is not supported"),
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
