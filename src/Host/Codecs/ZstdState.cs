using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Codecs;

/// <summary>Decodes zstd frames with the host's libzstd; one context for its whole life.</summary>
internal sealed unsafe partial class ZstdState : NativeDecoder
{
    /// <summary>What must be installed.</summary>
    public const string LibraryName = "libzstd.so.1";

    private const int WindowLogMaxParameter = 100;
    private const int ResetSessionOnly = 1;

    // 8 MiB, what the format's specification wants every decoder to support: a frame cannot make us spend more.
    private const int MaxWindowLog = 23;

    private void* _context;

    public ZstdState()
    {
        _context = CreateContext();
        if (_context is null || IsError(SetParameter(_context, WindowLogMaxParameter, MaxWindowLog)) != 0)
        {
            Dispose();
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{LibraryName} cannot prepare to decode");
        }
    }

    public override string Library => LibraryName;

    public override int Decompress(ReadOnlySpan<byte> input, Span<byte> output)
    {
        ObjectDisposedException.ThrowIf(_context is null, this);
        _ = Reset(_context, ResetSessionOnly);
        fixed (byte* from = input)
        {
            fixed (byte* to = output)
            {
                var source = new Buffer { Bytes = from, Size = (nuint)input.Length };
                var target = new Buffer { Bytes = to, Size = (nuint)output.Length };
                while (target.Position < target.Size && source.Position < source.Size)
                {
                    var (taken, given) = (source.Position, target.Position);
                    if (IsError(DecompressStream(_context, &target, &source)) != 0)
                    {
                        return target.Position == target.Size ? output.Length : -1;
                    }

                    if (source.Position == taken && target.Position == given)
                    {
                        return -1;
                    }
                }

                return (int)target.Position;
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

    [LibraryImport(LibraryName, EntryPoint = "ZSTD_createDCtx")]
    private static partial void* CreateContext();

    [LibraryImport(LibraryName, EntryPoint = "ZSTD_freeDCtx")]
    private static partial nuint FreeContext(void* context);

    [LibraryImport(LibraryName, EntryPoint = "ZSTD_DCtx_setParameter")]
    private static partial nuint SetParameter(void* context, int parameter, int value);

    [LibraryImport(LibraryName, EntryPoint = "ZSTD_DCtx_reset")]
    private static partial nuint Reset(void* context, int directive);

    [LibraryImport(LibraryName, EntryPoint = "ZSTD_decompressStream")]
    private static partial nuint DecompressStream(void* context, Buffer* output, Buffer* input);

    [LibraryImport(LibraryName, EntryPoint = "ZSTD_isError")]
    private static partial uint IsError(nuint code);

    [StructLayout(LayoutKind.Sequential)]
    private struct Buffer
    {
        public byte* Bytes;
        public nuint Size;
        public nuint Position;
    }
}
