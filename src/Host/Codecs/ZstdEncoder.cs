using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Codecs;

/// <summary>Encodes zstd frames with the host's libzstd; one context for its whole life.</summary>
internal sealed unsafe partial class ZstdEncoder : NativeEncoder
{
    private const string LibraryName = ZstdState.LibraryName;
    private readonly int _level;
    private void* _context;

    public ZstdEncoder(int level)
    {
        _level = level;
        _context = CreateContext();
        if (_context is null)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{LibraryName} cannot prepare to encode");
        }
    }

    public override int Compress(ReadOnlySpan<byte> input, Span<byte> output)
    {
        ObjectDisposedException.ThrowIf(_context is null, this);
        fixed (byte* from = input)
        {
            fixed (byte* to = output)
            {
                var result = CompressFrame(_context, to, (nuint)output.Length, from, (nuint)input.Length, _level);
                return IsError(result) != 0 ? -1 : (int)result;
            }
        }
    }

    public override void Dispose()
    {
        if (_context is not null)
        {
            _ = FreeContext(_context);
            _context = null;
        }
    }

    [LibraryImport(LibraryName, EntryPoint = "ZSTD_createCCtx")]
    private static partial void* CreateContext();

    [LibraryImport(LibraryName, EntryPoint = "ZSTD_freeCCtx")]
    private static partial nuint FreeContext(void* context);

    [LibraryImport(LibraryName, EntryPoint = "ZSTD_compressCCtx")]
    private static partial nuint CompressFrame(void* context, byte* output, nuint outputSize, byte* input, nuint inputSize, int level);

    [LibraryImport(LibraryName, EntryPoint = "ZSTD_isError")]
    private static partial uint IsError(nuint code);
}
