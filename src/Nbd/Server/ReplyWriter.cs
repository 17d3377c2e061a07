using Platter.Nbd.Protocol;

namespace Platter.Nbd.Server;

/// <summary>Writes replies without data.</summary>
internal static class ReplyWriter
{
    /// <summary>Room that any error reply fits into, in bytes.</summary>
    public const int MaxErrorBytes = 256;

    /// <summary>A simple reply.</summary>
    /// <returns>Bytes written.</returns>
    public static int WriteSimple(Span<byte> bytes, NbdError error, ulong cookie)
    {
        new NbdSimpleReply(error, cookie).WriteTo(bytes);
        return NbdSimpleReply.Size;
    }

    /// <summary>An error in the form that the request wants: with structured replies, READ and BLOCK_STATUS must get a chunk.</summary>
    /// <returns>Bytes written.</returns>
    public static int WriteError(Span<byte> bytes, in NbdRequest request, NbdError error, bool structured) =>
        structured && request.Command is (NbdCommand.Read or NbdCommand.BlockStatus)
            ? new NbdErrorChunk(error, NbdErrors.Describe(error)).WriteFinalChunk(bytes, request.Cookie)
            : WriteSimple(bytes, error, request.Cookie);
}
