namespace Platter.Nbd.Protocol;

/// <summary>Types of chunks in a structured reply (proto.md, "Structured reply types"). Bit 15 marks an error.</summary>
internal enum NbdChunkType : ushort
{
    None = 0,
    OffsetData = 1,
    OffsetHole = 2,
    BlockStatus = 5,
    BlockStatusExt = 6,
    ErrorBit = 0x8000,
    Error = ErrorBit + 1,
    ErrorOffset = ErrorBit + 2,
}
