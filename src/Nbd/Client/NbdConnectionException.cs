using Platter.Core.Errors;

namespace Platter.Nbd.Client;

/// <summary>The end of a connection, as the requests see it that were under way or came later. Leaves the room as an ordinary <see cref="BlockException"/>.</summary>
/// <param name="message">One line.</param>
/// <param name="isLost">Whether the peer or the network went away; another connection may do better. False: the server broke the protocol, or we closed it.</param>
/// <param name="inner">What the host said.</param>
internal sealed class NbdConnectionException(string message, bool isLost, Exception? inner = null) : BlockException(BlockErrorKind.Protocol, message, inner)
{
    /// <summary>Whether it is worth connecting again.</summary>
    public bool IsLost => isLost;

    /// <summary>The same for another request.</summary>
    public NbdConnectionException Again() => new(Message, isLost, this);
}
