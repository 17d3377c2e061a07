namespace Platter.Nbd.Protocol;

/// <summary>Options of the haggling phase (proto.md, "Option types").</summary>
internal enum NbdOption : uint
{
    ExportName = 1,
    Abort = 2,
    List = 3,

    /// <summary>Withdrawn from the protocol.</summary>
    PeekExport = 4,
    StartTls = 5,
    Info = 6,
    Go = 7,
    StructuredReply = 8,
    ListMetaContext = 9,
    SetMetaContext = 10,
    ExtendedHeaders = 11,
}
