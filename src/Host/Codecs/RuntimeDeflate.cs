using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Codecs;

/// <summary>Deflates with the compression library that .NET brings (zlib-ng), in a window of 4 KiB, which its public streams cannot be asked for.</summary>
/// <remarks>See <see cref="RuntimeInflate"/> for why it is tried before it is relied on.</remarks>
internal sealed unsafe partial class RuntimeDeflate : NativeEncoder
{
    private const string LibraryName = "libSystem.IO.Compression.Native";
    private const int RawDeflateWindowBits = -12;
    private const int Deflated = 8, MemoryLevel = 9, DefaultStrategy = 0;
    private const int Finish = 4;
    private const int Ok = 0, StreamEnd = 1;

    private readonly int _level;
    private RuntimeStream* _stream;

    public RuntimeDeflate(int level)
    {
        _level = level;
        _stream = (RuntimeStream*)NativeMemory.AllocZeroed((nuint)sizeof(RuntimeStream));
        try
        {
            Init();
        }
        catch
        {
            NativeMemory.Free(_stream);
            _stream = null;
            throw;
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

                // There is no entry point for starting over.
                _ = DeflateEnd(_stream);
                Init();
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

    private void Init()
    {
        var result = DeflateInit2(_stream, _level, Deflated, RawDeflateWindowBits, MemoryLevel, DefaultStrategy);
        if (result != Ok)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{LibraryName} cannot prepare to deflate (error {result})");
        }
    }

    [LibraryImport(LibraryName, EntryPoint = "CompressionNative_DeflateInit2_")]
    private static partial int DeflateInit2(RuntimeStream* stream, int level, int method, int windowBits, int memoryLevel, int strategy);

    [LibraryImport(LibraryName, EntryPoint = "CompressionNative_Deflate")]
    private static partial int Deflate(RuntimeStream* stream, int flush);

    [LibraryImport(LibraryName, EntryPoint = "CompressionNative_DeflateEnd")]
    private static partial int DeflateEnd(RuntimeStream* stream);
}
