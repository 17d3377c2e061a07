namespace Platter.Nbd.Protocol;

/// <summary>Flags of a chunk (proto.md, "Structured reply flags").</summary>
[Flags]
internal enum NbdChunkFlags : ushort
{
    None = 0,
    Done = 1,
}
