namespace Platter.TestKit;

/// <summary>Bytes of a file on their way to a state: changes are applied whole or in part.</summary>
public sealed class CutFile(string name, byte[] bytes, int length)
{
    private byte[] _bytes = bytes;
    private int _length = length;

    /// <summary>The file's name.</summary>
    public string Name => name;

    /// <summary>Bytes up to its end.</summary>
    public int Length => _length;

    /// <summary>A copy that goes its own way.</summary>
    public CutFile Clone() => new(name, ToArray(), _length);

    /// <summary>The content as an array of its own.</summary>
    public byte[] ToArray()
    {
        var copy = GC.AllocateUninitializedArray<byte>(_length);
        _bytes.AsSpan(0, _length).CopyTo(copy);
        return copy;
    }

    /// <summary>The content, given away: this object is not used afterwards.</summary>
    public byte[] Take() => _bytes.Length == _length ? _bytes : ToArray();

    /// <summary>Reads what lies inside.</summary>
    public int Read(long at, Span<byte> buffer)
    {
        var inside = (int)Math.Clamp(_length - at, 0, buffer.Length);
        if (inside > 0)
        {
            _bytes.AsSpan((int)at, inside).CopyTo(buffer);
        }

        return inside;
    }

    /// <summary>Applies a whole change.</summary>
    public void Apply(SimulatedWrite write)
    {
        if (write.Entries is not null)
        {
            return;
        }

        if (write.SetsLength)
        {
            SetLength((int)write.At);
            return;
        }

        Grow((int)(write.At + write.Length));
        var target = _bytes.AsSpan((int)write.At, (int)write.Length);
        if (write.Bytes is null)
        {
            target.Clear();
        }
        else
        {
            write.Bytes.CopyTo(target);
        }
    }

    /// <summary>Applies what a power cut left of a change.</summary>
    /// <param name="fate">Which sectors arrived, and whether the length did.</param>
    public void Apply(WriteFate fate)
    {
        var write = fate.Write;
        if (write.SetsLength || fate.IsWhole)
        {
            if (fate.IsWhole)
            {
                Apply(write);
            }

            return;
        }

        if (fate.LengthArrived)
        {
            Grow((int)(write.At + write.Length));
        }

        for (var sector = 0; sector < write.SectorCount; sector++)
        {
            if (!fate.Arrived(sector))
            {
                continue;
            }

            var (at, from, count) = write.Piece(sector);
            Grow((int)(at + count));
            var target = _bytes.AsSpan((int)at, count);
            if (write.Bytes is null)
            {
                target.Clear();
            }
            else
            {
                write.Bytes.AsSpan(from, count).CopyTo(target);
            }
        }
    }

    private void SetLength(int wanted)
    {
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

    private void Grow(int wanted)
    {
        if (wanted <= _length)
        {
            return;
        }

        if (wanted > _bytes.Length)
        {
            Array.Resize(ref _bytes, Math.Max(wanted, Math.Min(2 * _bytes.Length, _bytes.Length + (4 << 20))));
        }

        _length = wanted;
    }
}
