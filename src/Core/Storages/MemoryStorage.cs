using Platter.Core.Units;

namespace Platter.Core.Storages;

/// <summary>A storage in memory, growing as it is written. For tests, and for images that came from elsewhere as bytes.</summary>
public sealed class MemoryStorage : Storage
{
    private readonly Lock _gate = new();
    private byte[] _bytes;
    private int _length;

    /// <summary>Takes over <paramref name="bytes"/> as the content.</summary>
    public MemoryStorage(string name, byte[] bytes, bool readOnly = false)
    {
        Name = name;
        _bytes = bytes;
        _length = bytes.Length;
        IsReadOnly = readOnly;
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override bool IsReadOnly { get; }

    /// <inheritdoc/>
    public override long Length
    {
        get
        {
            lock (_gate)
            {
                return _length;
            }
        }
    }

    /// <inheritdoc/>
    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        lock (_gate)
        {
            if (at.Value >= _length)
            {
                return new(0);
            }

            var count = (int)Math.Min(buffer.Length, _length - at.Value);
            _bytes.AsSpan((int)at.Value, count).CopyTo(buffer.Span);
            return new(count);
        }
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (IsReadOnly)
        {
            return base.WriteAsync(at, buffer, cancellationToken);
        }

        lock (_gate)
        {
            Grow(checked((int)(at.Value + buffer.Length)));
            buffer.Span.CopyTo(_bytes.AsSpan((int)at.Value));
        }

        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        if (IsReadOnly)
        {
            return base.WriteZeroesAsync(at, length, mayUnmap, cancellationToken);
        }

        lock (_gate)
        {
            Grow(checked((int)(at.Value + length)));
            _bytes.AsSpan((int)at.Value, (int)length).Clear();
        }

        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroFastAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        await WriteZeroesAsync(at, length, mayUnmap, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            if (!IsReadOnly && at.Value < _length)
            {
                _bytes.AsSpan((int)at.Value, (int)Math.Min(length, _length - at.Value)).Clear();
            }
        }

        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
    {
        if (IsReadOnly)
        {
            return base.SetLengthAsync(length, cancellationToken);
        }

        lock (_gate)
        {
            var wanted = checked((int)length);
            if (wanted < _length)
            {
                _bytes.AsSpan(wanted, _length - wanted).Clear();
                _length = wanted;
            }
            else
            {
                Grow(wanted);
            }
        }

        return ValueTask.CompletedTask;
    }

    /// <summary>A copy of the content.</summary>
    public byte[] ToArray()
    {
        lock (_gate)
        {
            return _bytes.AsSpan(0, _length).ToArray();
        }
    }

    private void Grow(int length)
    {
        if (length <= _length)
        {
            return;
        }

        if (length > _bytes.Length)
        {
            Array.Resize(ref _bytes, Math.Max(length, (int)Math.Min(2L * _bytes.Length, Array.MaxLength)));
        }

        _length = length;
    }
}
