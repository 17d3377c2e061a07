using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Codecs;

/// <summary>Inflates with the host's zlib.</summary>
/// <remarks>The structure is that of zlib.h, with "unsigned long" as wide as a pointer: Unix only.</remarks>
internal sealed unsafe partial class ZlibInflate : NativeDecoder
{
    private const string LibraryName = "libz.so.1";
    private const int RawDeflateWindowBits = -15;
    private const int Finish = 4;
    private const int DataError = -3;
    private const int Ok = 0, StreamEnd = 1, BufferError = -5;

    private ZlibStream* _stream;

    public ZlibInflate()
    {
        _stream = (ZlibStream*)NativeMemory.AllocZeroed((nuint)sizeof(ZlibStream));
        try
        {
            // Only the first character of the version is compared.
            fixed (byte* version = "1.2.11\0"u8)
            {
                ThrowUnlessOk(InflateInit2(_stream, RawDeflateWindowBits, version, sizeof(ZlibStream)));
            }
        }
        catch
        {
            NativeMemory.Free(_stream);
            _stream = null;
            throw;
        }
    }

    public override string Library => LibraryName;

    public override int Decompress(ReadOnlySpan<byte> input, Span<byte> output)
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
                var result = Inflate(_stream, Finish);
                var written = output.Length - (int)_stream->AvailableOut;
                _stream->NextIn = _stream->NextOut = null;
                ThrowUnlessOk(InflateReset(_stream));
                return result is Ok or StreamEnd or BufferError || (result == DataError && written == output.Length) ? written : -1;
            }
        }
    }

    public override void Dispose()
    {
        if (_stream is not null)
        {
            _ = InflateEnd(_stream);
            NativeMemory.Free(_stream);
            _stream = null;
        }
    }

    private static void ThrowUnlessOk(int result)
    {
        if (result != Ok)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{LibraryName} cannot prepare to inflate (error {result})");
        }
    }

    [LibraryImport(LibraryName, EntryPoint = "inflateInit2_")]
    private static partial int InflateInit2(ZlibStream* stream, int windowBits, byte* version, int streamSize);

    [LibraryImport(LibraryName, EntryPoint = "inflate")]
    private static partial int Inflate(ZlibStream* stream, int flush);

    [LibraryImport(LibraryName, EntryPoint = "inflateReset")]
    private static partial int InflateReset(ZlibStream* stream);

    [LibraryImport(LibraryName, EntryPoint = "inflateEnd")]
    private static partial int InflateEnd(ZlibStream* stream);
}
