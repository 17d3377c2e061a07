namespace Platter.Nbd.Protocol;

/// <summary>Flags of a newstyle greeting; the client's 32-bit flags have the same meanings at the same bits.</summary>
[Flags]
internal enum NbdHandshakeFlags : ushort
{
    None = 0,
    FixedNewstyle = 1,
    NoZeroes = 2,
}
