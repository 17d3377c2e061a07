using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Metadata;

/// <summary>Reads a table whose entries differ in length through a buffer that moves along. Used by one reader at a time.</summary>
/// <param name="reader">The file.</param>
/// <param name="start">Where the table starts.</param>
/// <param name="structure">What it is, for messages.</param>
/// <param name="chunkBytes">Bytes per read.</param>
internal sealed class TableWindow(TableReader reader, HostOffset start, string structure, int chunkBytes)
{
    private byte[] _buffer = [];
    private long _bufferAt;
    private int _length;

    /// <summary>Bytes of the table; valid until the next call.</summary>
    /// <param name="at">From the start of the table; never less than in the call before.</param>
    /// <param name="length">How many.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    public async ValueTask<ReadOnlyMemory<byte>> GetAsync(long at, int length, CancellationToken cancellationToken)
    {
        if (at < _bufferAt || at + length > _bufferAt + _length)
        {
            if (_buffer.Length < length)
            {
                _buffer = new byte[Math.Max(length, chunkBytes)];
            }

            _bufferAt = at;
            _length = await reader.ReadSomeAsync(start + at, _buffer, length, structure, cancellationToken).ConfigureAwait(false);
        }

        return _buffer.AsMemory((int)(at - _bufferAt), length);
    }
}
