using Platter.Nbd.Protocol;

namespace Platter.Nbd.Server;

/// <summary>Writes replies without data.</summary>
internal static class ReplyWriter
{
    /// <summary>Room that any of these replies fits into, in bytes.</summary>
    public const int MaxErrorBytes = 256;

    /// <summary>The end of a request that went well and brings nothing.</summary>
    /// <returns>Bytes written.</returns>
    public static int WriteSuccess(Span<byte> bytes, in NbdRequest request, NbdHeaderStyle style) => style == NbdHeaderStyle.Extended
        ? new NbdChunkHeader(NbdChunkFlags.Done, NbdChunkType.None, request.Cookie, request.Offset, 0).WriteTo(bytes, style)
        : WriteSimple(bytes, NbdError.None, request.Cookie);

    /// <summary>An error in the form that the request wants: requests whose replies come in chunks get one.</summary>
    /// <returns>Bytes written.</returns>
    public static int WriteError(Span<byte> bytes, in NbdRequest request, NbdError error, NbdHeaderStyle style)
    {
        var isChunk = style == NbdHeaderStyle.Extended
            || (style == NbdHeaderStyle.Structured && request.Command is NbdCommand.Read or NbdCommand.BlockStatus);
        return isChunk
            ? new NbdErrorChunk(error, NbdErrors.Describe(error)).WriteFinalChunk(bytes, style, request)
            : WriteSimple(bytes, error, request.Cookie);
    }

    private static int WriteSimple(Span<byte> bytes, NbdError error, ulong cookie)
    {
        new NbdSimpleReply(error, cookie).WriteTo(bytes);
        return NbdSimpleReply.Size;
    }
}
