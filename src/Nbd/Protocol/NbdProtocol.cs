namespace Platter.Nbd.Protocol;

/// <summary>Magic numbers and limits of the protocol. Everything on the wire is big-endian.</summary>
internal static class NbdProtocol
{
    /// <summary>The port that IANA assigned.</summary>
    public const int DefaultPort = 10809;

    /// <summary><c>NBDMAGIC</c>: first word of every greeting.</summary>
    public const ulong InitMagic = 0x4e42444d41474943;

    /// <summary><c>IHAVEOPT</c>: second word of a newstyle greeting, and the start of every option.</summary>
    public const ulong OptionMagic = 0x49484156454f5054;

    /// <summary>Second word of an oldstyle greeting.</summary>
    public const ulong OldstyleMagic = 0x0000420281861253;

    /// <summary>Start of every option reply.</summary>
    public const ulong OptionReplyMagic = 0x0003e889045565a9;

    /// <summary>Start of a request.</summary>
    public const uint RequestMagic = 0x25609513;

    /// <summary>Start of a simple reply.</summary>
    public const uint SimpleReplyMagic = 0x67446698;

    /// <summary>Start of a chunk of a structured reply.</summary>
    public const uint StructuredReplyMagic = 0x668e33ef;

    /// <summary>Start of an extended request.</summary>
    public const uint ExtendedRequestMagic = 0x21e41c71;

    /// <summary>Start of a chunk of an extended reply.</summary>
    public const uint ExtendedReplyMagic = 0x6e8a278c;

    /// <summary>Longest string (export name, error message, context name), in bytes.</summary>
    public const int MaxStringBytes = 4096;

    /// <summary>Payload that any peer should accept, in bytes; also the most we ask for or send in one request.</summary>
    public const int MaxPayloadBytes = 32 << 20;

    /// <summary>Most descriptors that a server should put in one block status chunk.</summary>
    public const int MaxStatusDescriptors = 1 << 20;

    /// <summary>Zeros after the answer to <see cref="NbdOption.ExportName"/> unless both sides agreed to leave them out.</summary>
    public const int ExportNameZeroes = 124;

    /// <summary>Bytes of a metadata context's id.</summary>
    public const int ContextIdSize = 4;

    /// <summary>The one metadata context that the protocol defines: see <see cref="NbdBlockState"/>.</summary>
    public const string AllocationContext = "base:allocation";

    /// <summary>Start of the contexts that the protocol defines; their statuses have 32 bits.</summary>
    public const string BaseContextPrefix = "base:";

    /// <summary>QEMU's context of how deep in the backing chain a range lies: 0 unallocated, 1 the top image, 2 the one under it ...</summary>
    public const string DepthContext = "qemu:allocation-depth";

    /// <summary>Start of QEMU's contexts of dirty bitmaps; the bitmap's name follows. Status bit 0: dirty.</summary>
    public const string BitmapContextPrefix = "qemu:dirty-bitmap:";
}
