namespace Platter;

/// <summary>A read-only, seekable stream over a disk. Not thread-safe (it has a position); the disk under it is.</summary>
internal sealed class DiskStream(Disk disk) : Stream
{
    private long _position;

    public override bool CanRead => true;

    public override bool CanSeek => true;

    public override bool CanWrite => false;

    public override long Length => disk.Size;

    public override long Position
    {
        get => _position;
        set
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            _position = value;
        }
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var read = await disk.ReadAsync(_position, buffer, cancellationToken).ConfigureAwait(false);
        _position += read;
        return read;
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    // Stream's contract has synchronous reads. Over local files the request has completed already when it returns.
    public override int Read(byte[] buffer, int offset, int count)
    {
        var read = disk.ReadAsync(_position, buffer.AsMemory(offset, count)).AsTask().GetAwaiter().GetResult();
        _position += read;
        return read;
    }

    public override long Seek(long offset, SeekOrigin origin)
    {
        var target = origin switch
        {
            SeekOrigin.Begin => offset,
            SeekOrigin.Current => _position + offset,
            _ => disk.Size + offset,
        };
        Position = target < 0 ? throw new IOException("cannot seek before the start of the disk") : target;
        return target;
    }

    public override void Flush()
    {
    }

    public override void SetLength(long value) => throw new NotSupportedException("the disk is open for reading only");

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException("the disk is open for reading only");
}
