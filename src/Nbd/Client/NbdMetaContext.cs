namespace Platter.Nbd.Client;

/// <summary>A metadata context that the handshake selected, or a server listed.</summary>
/// <param name="Name"><c>base:allocation</c>, <c>qemu:dirty-bitmap:NAME</c> ...; text of a stranger unless it was asked for by this name.</param>
/// <param name="Id">The server's number of it on this connection.</param>
internal readonly record struct NbdMetaContext(string Name, uint Id);
