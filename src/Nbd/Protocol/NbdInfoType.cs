namespace Platter.Nbd.Protocol;

/// <summary>Kinds of information in an <see cref="NbdOptionReplyType.Info"/> reply (proto.md, <c>NBD_REP_INFO</c>).</summary>
internal enum NbdInfoType : ushort
{
    Export = 0,
    Name = 1,
    Description = 2,
    BlockSize = 3,
}
