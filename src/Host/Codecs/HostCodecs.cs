using Platter.Core.Codecs;
using Platter.Core.Errors;
using Platter.Host.Native;

namespace Platter.Host.Codecs;

/// <summary>Decoders and encoders from the host's native libraries: deflate from the one that .NET itself brings, zstd from libzstd.</summary>
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

    // Levels of zlib and zstd that have a pool each; 0 is the library's own choice.
    private const int MaxDeflateLevel = 9, MaxZstdLevel = 22;
    private const int DeflateDefault = -1, ZstdDefault = 0;

    private static readonly Func<int, NativeEncoder>[] s_deflates = [static level => new RuntimeDeflate(level), static level => new ZlibDeflate(level)];

    private readonly CodecPool<PooledDecompressor> _inflatePool = new(MaxPooled);
    private readonly CodecPool<PooledDecompressor> _zstdPool = new(MaxPooled);
    private readonly CodecPool<PooledCompressor>?[] _deflatePools = new CodecPool<PooledCompressor>?[MaxDeflateLevel + 1];
    private readonly CodecPool<PooledCompressor>?[] _zstdEncoderPools = new CodecPool<PooledCompressor>?[MaxZstdLevel + 1];
    private readonly Lazy<Func<NativeDecoder>?> _inflate;
    private readonly Lazy<Func<int, NativeEncoder>?> _deflate;
    private volatile bool _zstdMissing;

    private HostCodecs(int first)
    {
        _inflate = new(() => FirstThatWorks(first));
        _deflate = new(() => FirstThatDeflates(first));
    }

    /// <summary>The one instance.</summary>
    public static HostCodecs Instance { get; } = new(0);

    /// <summary>An instance that leaves out the first ways to inflate and deflate; for tests.</summary>
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

        throw NoZstd();
    }

    /// <inheritdoc/>
    public override Compressor RentDeflate(int? level)
    {
        if (HostCalls.ForcePortable || _deflate.Value is not { } make)
        {
            return PortableCodecs.Instance.RentDeflate(level);
        }

        var pool = PoolOf(_deflatePools, level);
        return pool.TryTake() ?? new PooledCompressor(make(level ?? DeflateDefault), pool);
    }

    /// <inheritdoc/>
    public override Compressor RentZstdCompressor(int? level)
    {
        var pool = PoolOf(_zstdEncoderPools, level);
        if (pool.TryTake() is { } pooled)
        {
            return pooled;
        }

        if (!_zstdMissing)
        {
            try
            {
                return new PooledCompressor(new ZstdEncoder(level ?? ZstdDefault), pool);
            }
            catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
            {
                _zstdMissing = true;
            }
        }

        throw NoZstd();
    }

    private static CodecPool<PooledCompressor> PoolOf(CodecPool<PooledCompressor>?[] pools, int? level)
    {
        ref var pool = ref pools[Math.Clamp(level ?? 0, 0, pools.Length - 1)];
        return Volatile.Read(ref pool) ?? Interlocked.CompareExchange(ref pool, new(MaxPooled), null) ?? pool;
    }

    private static BlockException NoZstd() => new(
        BlockErrorKind.Unsupported, $"zstd compressed clusters need the library {ZstdState.LibraryName}, which was not found");

    private static Func<int, NativeEncoder>? FirstThatDeflates(int first)
    {
        for (var i = first; i < s_deflates.Length; i++)
        {
            if (Deflates(s_deflates[i]))
            {
                return s_deflates[i];
            }
        }

        return null;
    }

    // Encodes twice with one state, and what comes out is what went in. The input repeats itself at a distance that a larger window would use.
    private static bool Deflates(Func<int, NativeEncoder> make)
    {
        var input = new byte[16 * 1024];
        new Random(1).NextBytes(input.AsSpan(0, 8192));
        input.AsSpan(0, 8192).CopyTo(input.AsSpan(8192));
        var (encoded, decoded) = (new byte[32 * 1024], new byte[input.Length]);
        try
        {
            using var encoder = make(DeflateDefault);
            for (var round = 0; round < 2; round++)
            {
                var length = encoder.Compress(input, encoded);
                using var inflate = PortableCodecs.Instance.RentInflate();
                if (length < input.Length || inflate.Decompress(encoded.AsSpan(0, length), decoded) != input.Length
                    || !input.AsSpan().SequenceEqual(decoded))
                {
                    return false;
                }
            }

            return encoder.Compress(input, encoded.AsSpan(0, 1024)) < 0;
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException or BlockException)
        {
            return false;
        }
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
