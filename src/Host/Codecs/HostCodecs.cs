using Platter.Core.Codecs;
using Platter.Core.Errors;
using Platter.Host.Native;

namespace Platter.Host.Codecs;

/// <summary>Decoders from the host's native libraries: deflate from the one that .NET itself brings, zstd from libzstd.</summary>
/// <remarks>
/// .NET's native compression library is found by trying it once on a known stream, since its entry points are not documented; then zlib is
/// tried the same way, and then <see cref="PortableCodecs"/> takes over. A decoder keeps its native state when it is given back, so that the next
/// cluster costs no allocation. Thread-safe; what it hands out is not.
/// </remarks>
public sealed class HostCodecs : CodecProvider
{
    // As many as workers may ever decode at once; more are freed when they come back.
    private const int MaxPooled = 32;

    private static readonly Func<NativeDecoder>[] s_inflates = [static () => new RuntimeInflate(), static () => new ZlibInflate()];

    private readonly DecompressorPool _inflatePool = new(MaxPooled);
    private readonly DecompressorPool _zstdPool = new(MaxPooled);
    private readonly Lazy<Func<NativeDecoder>?> _inflate;
    private volatile bool _zstdMissing;

    private HostCodecs(int firstInflate) => _inflate = new(() => FirstThatWorks(firstInflate));

    /// <summary>The one instance.</summary>
    public static HostCodecs Instance { get; } = new(0);

    /// <summary>An instance that leaves out the first ways to inflate; for tests.</summary>
    internal static HostCodecs WithoutFirst(int count) => new(count);

    /// <summary>Which library inflates, for diagnostics.</summary>
    public string InflateName => Inflate is null ? "portable" : Probe(Inflate)!;

    private Func<NativeDecoder>? Inflate => HostCalls.ForcePortable ? null : _inflate.Value;

    /// <inheritdoc/>
    public override Decompressor RentInflate()
    {
        if (Inflate is not { } make)
        {
            return PortableCodecs.Instance.RentInflate();
        }

        return _inflatePool.TryTake() ?? new PooledDecompressor(make(), _inflatePool);
    }

    /// <inheritdoc/>
    public override Decompressor RentZstd()
    {
        if (_zstdPool.TryTake() is { } pooled)
        {
            return pooled;
        }

        if (!_zstdMissing)
        {
            try
            {
                return new PooledDecompressor(new ZstdState(), _zstdPool);
            }
            catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
            {
                _zstdMissing = true;
            }
        }

        throw new BlockException(
            BlockErrorKind.Unsupported, $"zstd compressed clusters need the library {ZstdState.LibraryName}, which was not found");
    }

    private static Func<NativeDecoder>? FirstThatWorks(int first)
    {
        for (var i = first; i < s_inflates.Length; i++)
        {
            if (Probe(s_inflates[i]) is not null)
            {
                return s_inflates[i];
            }
        }

        return null;
    }

    // Decodes a stream twice with one state: the layout of the native structure is what we think, and the state can be used again.
    private static string? Probe(Func<NativeDecoder> make)
    {
        ReadOnlySpan<byte> stream =
        [
            0x2b, 0xc8, 0x49, 0x2c, 0x29, 0x49, 0x2d, 0x52, 0x28, 0x40, 0xa3, 0x33, 0xf3, 0xd2, 0x80, 0xac, 0xd4, 0x62, 0x00, 0xaa, 0x55,
        ];
        var expected = "platter platter platter inflates"u8;
        Span<byte> output = stackalloc byte[64];
        try
        {
            using var decoder = make();
            for (var round = 0; round < 2; round++)
            {
                output.Clear();
                if (decoder.Decompress(stream, output) != expected.Length || !output[..expected.Length].SequenceEqual(expected))
                {
                    return null;
                }
            }

            return decoder.Library;
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException)
        {
            return null;
        }
    }
}
