using Platter.Core.Codecs;
using Platter.Core.Images;
using Platter.Core.Tls;
using Platter.Formats.Parallels;
using Platter.Formats.Parallels.Bundle;
using Platter.Formats.Qcow2;
using Platter.Formats.Raw;
using Platter.Host.Codecs;
using Platter.Host.Tls;

namespace Platter;

/// <summary>The one list of formats and kinds of storage that Platter knows, written out by hand.</summary>
public static class KnownFormats
{
    /// <summary>Every format that can be opened.</summary>
    public static FormatRegistry Registry { get; } = new(
        [new RawFormat(), new Qcow2Format(), new ParallelsFormat()],
        [new ParallelsBundleFormat()]);

    /// <summary>Decompressors.</summary>
    public static CodecProvider Codecs => HostCodecs.Instance;

    /// <summary>TLS by the host's library.</summary>
    public static TlsLibrary TlsLibrary => OpenSslLibrary.Instance;
}
