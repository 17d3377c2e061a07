using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Codecs;

/// <summary>Inflates with the compression library that .NET brings (zlib-ng), through the entry points that its own streams use.</summary>
/// <remarks>They are exported but not documented, which is why <see cref="HostCodecs"/> tries them before it relies on them. Under Native AOT
/// they are linked in. A single call with the whole input and the whole output needs no window and copies nothing twice.</remarks>
internal sealed unsafe partial class RuntimeInflate : NativeDecoder
{
    private const string LibraryName = "libSystem.IO.Compression.Native";
    private const int RawDeflateWindowBits = -15;
    private const int Finish = 4;
    private const int DataError = -3;
    private const int Ok = 0, StreamEnd = 1, BufferError = -5;

    // Native memory: the library remembers the address of the structure.
    private RuntimeStream* _stream;

    public RuntimeInflate()
    {
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
                Reset();

                // A full output is all that was asked for, whatever the stream goes on with.
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

    private void Init() => ThrowUnlessOk(InflateInit2(_stream, RawDeflateWindowBits));

#if NET10_0_OR_GREATER
    private void Reset() => ThrowUnlessOk(InflateReset2(_stream, RawDeflateWindowBits));

    [LibraryImport(LibraryName, EntryPoint = "CompressionNative_InflateReset2_")]
    private static partial int InflateReset2(RuntimeStream* stream, int windowBits);
#else
    // The library of .NET 9 has no entry point for it.
    private void Reset()
    {
        _ = InflateEnd(_stream);
        Init();
    }
#endif

    private static void ThrowUnlessOk(int result)
    {
        if (result != Ok)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{LibraryName} cannot prepare to inflate (error {result})");
        }
    }

    [LibraryImport(LibraryName, EntryPoint = "CompressionNative_InflateInit2_")]
    private static partial int InflateInit2(RuntimeStream* stream, int windowBits);

    [LibraryImport(LibraryName, EntryPoint = "CompressionNative_Inflate")]
    private static partial int Inflate(RuntimeStream* stream, int flush);

    [LibraryImport(LibraryName, EntryPoint = "CompressionNative_InflateEnd")]
    private static partial int InflateEnd(RuntimeStream* stream);
}
