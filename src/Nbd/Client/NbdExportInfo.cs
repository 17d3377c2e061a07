using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>What the handshake agreed on.</summary>
/// <param name="Size">Size of the export in bytes; never negative.</param>
/// <param name="Flags">What the export offers.</param>
/// <param name="BlockSizes">Size constraints, those of the protocol if the server named none.</param>
/// <param name="Style">How requests and replies look.</param>
/// <param name="Contexts">Metadata contexts that every BLOCK_STATUS answers; empty when the server cannot tell.</param>
internal sealed record NbdExportInfo(
    long Size, NbdTransmissionFlags Flags, NbdBlockSizes BlockSizes, NbdHeaderStyle Style, IReadOnlyList<NbdMetaContext> Contexts)
{
    /// <summary>Whether an export of this kind has a property.</summary>
    public bool Can(NbdTransmissionFlags flag) => (Flags & flag) != 0;

    /// <summary>Says what another handshake agreed on differently, or null. Numbers of contexts may differ.</summary>
    public string? FindChange(NbdExportInfo other) =>
        Size != other.Size ? $"it had {Size} bytes and now has {other.Size}"
        : Flags != other.Flags ? $"its transmission flags were 0x{(ushort)Flags:x} and now are 0x{(ushort)other.Flags:x}"
        : BlockSizes != other.BlockSizes ? "its block sizes are different"
        : Style != other.Style ? $"its headers were {Style} and now are {other.Style}"
        : !Contexts.Select(context => context.Name).SequenceEqual(other.Contexts.Select(context => context.Name)) ? "its metadata contexts are different"
        : null;
}
