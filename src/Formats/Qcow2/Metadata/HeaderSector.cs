using System.Buffers.Binary;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Metadata;

/// <summary>The first sector of a writable image: fields of the header are changed in memory and written together, which a disk does wholly or not at all.</summary>
/// <remarks>Used by one caller at a time.</remarks>
internal sealed class HeaderSector
{
    private readonly Storage _storage;
    private readonly byte[] _bytes;
    private bool _isDirty;

    private HeaderSector(Storage storage, byte[] bytes)
    {
        _storage = storage;
        _bytes = bytes;
    }

    /// <summary>Reads it.</summary>
    public static async ValueTask<HeaderSector> LoadAsync(Storage storage, CancellationToken cancellationToken)
    {
        var bytes = new byte[Sizes.SectorBytes];
        _ = await storage.ReadAsync(default, bytes, cancellationToken).ConfigureAwait(false);
        return new(storage, bytes);
    }

    /// <summary>Reads it again: somebody else has written the header.</summary>
    public async ValueTask ReloadAsync(CancellationToken cancellationToken)
    {
        _ = await _storage.ReadAsync(default, _bytes, cancellationToken).ConfigureAwait(false);
        _isDirty = false;
    }

    /// <summary>Whether fields were changed that are not on the disk.</summary>
    public bool IsDirty => _isDirty;

    /// <summary>The fields as they are in memory.</summary>
    public Qcow2Header Header => Qcow2Header.Parse(_bytes, _storage.Name);

    /// <summary>The sector as it is in memory.</summary>
    public byte[] ToArray() => [.. _bytes];

    /// <summary>Changes 64 bits of a field.</summary>
    public void Set64(int at, ulong value)
    {
        if (BinaryPrimitives.ReadUInt64BigEndian(_bytes.AsSpan(at)) != value)
        {
            BinaryPrimitives.WriteUInt64BigEndian(_bytes.AsSpan(at), value);
            _isDirty = true;
        }
    }

    /// <summary>Changes 32 bits of a field.</summary>
    public void Set32(int at, uint value)
    {
        if (BinaryPrimitives.ReadUInt32BigEndian(_bytes.AsSpan(at)) != value)
        {
            BinaryPrimitives.WriteUInt32BigEndian(_bytes.AsSpan(at), value);
            _isDirty = true;
        }
    }

    /// <summary>Somebody else has written the first cluster: this is how it begins now. No change may be waiting.</summary>
    public void Replace(ReadOnlySpan<byte> cluster) => cluster[..Sizes.SectorBytes].CopyTo(_bytes);

    /// <summary>Writes the sector if it was changed. The caller flushes before and behind as its order needs.</summary>
    public async ValueTask WriteAsync(CancellationToken cancellationToken)
    {
        if (_isDirty)
        {
            await _storage.WriteAsync(default, _bytes, cancellationToken).ConfigureAwait(false);
            _isDirty = false;
        }
    }
}
