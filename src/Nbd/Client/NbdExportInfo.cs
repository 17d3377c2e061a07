using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>What the handshake agreed on.</summary>
/// <param name="Size">Size of the export in bytes; never negative.</param>
/// <param name="Flags">What the export offers.</param>
/// <param name="BlockSizes">Size constraints, those of the protocol if the server named none.</param>
/// <param name="Style">How requests and replies look.</param>
/// <param name="AllocationContext">The server's id of <c>base:allocation</c>, or null when it cannot tell data from holes.</param>
internal sealed record NbdExportInfo(
    long Size, NbdTransmissionFlags Flags, NbdBlockSizes BlockSizes, NbdHeaderStyle Style, uint? AllocationContext);
