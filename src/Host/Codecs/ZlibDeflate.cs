using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Codecs;

/// <summary>Deflates with the host's zlib, in a window of 4 KiB.</summary>
/// <remarks>The structure is that of zlib.h, with "unsigned long" as wide as a pointer: Unix only.</remarks>
internal sealed unsafe partial class ZlibDeflate : NativeEncoder
{
    private const string LibraryName = "libz.so.1";
    private const int RawDeflateWindowBits = -12;
    private const int Deflated = 8, MemoryLevel = 9, DefaultStrategy = 0;
    private const int Finish = 4;
    private const int Ok = 0, StreamEnd = 1;

    private ZlibStream* _stream;

    public ZlibDeflate(int level)
    {
        _stream = (ZlibStream*)NativeMemory.AllocZeroed((nuint)sizeof(ZlibStream));
        var result = 0;
        try
        {
            // Only the first character of the version is compared.
            fixed (byte* version = "1.2.11\0"u8)
            {
                result = DeflateInit2(_stream, level, Deflated, RawDeflateWindowBits, MemoryLevel, DefaultStrategy, version, sizeof(ZlibStream));
            }
        }
        finally
        {
            if (_stream->State is null)
            {
                NativeMemory.Free(_stream);
                _stream = null;
            }
        }

        if (result != Ok)
        {
            Dispose();
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{LibraryName} cannot prepare to deflate (error {result})");
        }
    }

    public override int Compress(ReadOnlySpan<byte> input, Span<byte> output)
    {
        ObjectDisposedException.ThrowIf(_stream is null, this);
        fixed (byte* from = input)
        {
            fixed (byte* to = output)
            {
                _stream->NextIn = from;
                _stream->AvailableIn = (uint)input.Length;
                _stream->NextOut = to;
                _stream->AvailableOut = (uint)output.Length;
                var result = Deflate(_stream, Finish);
                var written = output.Length - (int)_stream->AvailableOut;
                _stream->NextIn = _stream->NextOut = null;
                _ = DeflateReset(_stream);
                return result == StreamEnd ? written : -1;
            }
        }
    }

    public override void Dispose()
    {
        if (_stream is not null)
        {
            _ = DeflateEnd(_stream);
            NativeMemory.Free(_stream);
            _stream = null;
        }
    }

    [LibraryImport(LibraryName, EntryPoint = "deflateInit2_")]
    private static partial int DeflateInit2(
        ZlibStream* stream, int level, int method, int windowBits, int memoryLevel, int strategy, byte* version, int streamSize);

    [LibraryImport(LibraryName, EntryPoint = "deflate")]
    private static partial int Deflate(ZlibStream* stream, int flush);

    [LibraryImport(LibraryName, EntryPoint = "deflateReset")]
    private static partial int DeflateReset(ZlibStream* stream);

    [LibraryImport(LibraryName, EntryPoint = "deflateEnd")]
    private static partial int DeflateEnd(ZlibStream* stream);
}
