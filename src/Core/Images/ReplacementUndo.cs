using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Storages;

namespace Platter.Core.Images;

/// <summary>Takes back a repair that replaced a small file as a whole, or made it.</summary>
/// <remarks>
/// As a file, all numbers little-endian:
/// <code>
///   0  8  magic "PLTUNDO3"                              16  8  length after, bytes       28 4  zero
///   8  8  length before, bytes; -1: it was not there    24  4  length of the name        32 32 SHA-256 of the file after
/// then the file's name (UTF-8), what it held before, SHA-256 of everything before it
/// </code>
/// </remarks>
public sealed class ReplacementUndo : RepairUndo
{
    private const int FixedSize = 64, MaxNameBytes = 4096;
    private const int LengthBeforeAt = 8, LengthAfterAt = 16, NameLengthAt = 24, HashAt = 32;

    private readonly string _name;
    private readonly byte[]? _before;
    private readonly long _lengthAfter;
    private readonly byte[] _hashAfter;

    private ReplacementUndo(string name, byte[]? before, long lengthAfter, byte[] hashAfter) =>
        (_name, _before, _lengthAfter, _hashAfter) = (name, before, lengthAfter, hashAfter);

    /// <inheritdoc/>
    public override string ImageName => _name;

    /// <inheritdoc/>
    public override bool RemovesFile => _before is null;

    /// <summary>What undo files of this form begin with.</summary>
    internal static ReadOnlySpan<byte> Magic => "PLTUNDO3"u8;

    /// <summary>Describes a repair that is about to replace or make a file.</summary>
    /// <param name="name">The file.</param>
    /// <param name="before">What it holds, or null when it is not there.</param>
    /// <param name="after">What it will hold.</param>
    public static ReplacementUndo Describe(string name, byte[]? before, ReadOnlySpan<byte> after) => new(name, before, after.Length, SHA256.HashData(after));

    /// <inheritdoc/>
    public override async ValueTask WriteToAsync(Stream target, CancellationToken cancellationToken = default)
    {
        var name = Encoding.UTF8.GetBytes(_name);
        name = name.Length <= MaxNameBytes ? name : name[..MaxNameBytes];
        var before = _before ?? [];
        var bytes = new byte[FixedSize + name.Length + before.Length + SHA256.HashSizeInBytes];
        Magic.CopyTo(bytes);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(LengthBeforeAt), _before?.Length ?? -1);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(LengthAfterAt), _lengthAfter);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(NameLengthAt), name.Length);
        _hashAfter.CopyTo(bytes, HashAt);
        name.CopyTo(bytes, FixedSize);
        before.CopyTo(bytes, FixedSize + name.Length);
        SHA256.HashData(bytes.AsSpan(0, bytes.Length - SHA256.HashSizeInBytes)).CopyTo(bytes, bytes.Length - SHA256.HashSizeInBytes);
        await target.WriteAsync(bytes, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask ApplyAsync(Storage storage, CancellationToken cancellationToken = default)
    {
        var bytes = new byte[storage.Length == _lengthAfter ? _lengthAfter : 0];
        var read = await storage.ReadAsync(default, bytes, cancellationToken).ConfigureAwait(false);
        if (storage.Length != _lengthAfter || !SHA256.HashData(bytes.AsSpan(0, read)).AsSpan().SequenceEqual(_hashAfter))
        {
            throw NotAsLeft(storage, _name);
        }

        if (_before is not null)
        {
            await storage.SetLengthAsync(_before.Length, CancellationToken.None).ConfigureAwait(false);
            await storage.WriteAsync(default, _before, CancellationToken.None).ConfigureAwait(false);
            await storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        }
    }

    internal static ReplacementUndo Parse(ReadOnlySpan<byte> bytes, string file)
    {
        var body = bytes.Length < FixedSize + SHA256.HashSizeInBytes ? throw Damaged(file) : bytes[..^SHA256.HashSizeInBytes];
        var lengthBefore = BinaryPrimitives.ReadInt64LittleEndian(body[LengthBeforeAt..]);
        var lengthAfter = BinaryPrimitives.ReadInt64LittleEndian(body[LengthAfterAt..]);
        var nameLength = BinaryPrimitives.ReadUInt32LittleEndian(body[NameLengthAt..]);
        if (!SHA256.HashData(body).AsSpan().SequenceEqual(bytes[^SHA256.HashSizeInBytes..])
            || nameLength > MaxNameBytes || lengthBefore < -1 || lengthAfter is < 0 or > int.MaxValue
            || Math.Max(0, lengthBefore) != body.Length - FixedSize - (long)nameLength)
        {
            throw Damaged(file);
        }

        var before = lengthBefore < 0 ? null : body[(FixedSize + (int)nameLength)..].ToArray();
        return new(Encoding.UTF8.GetString(body.Slice(FixedSize, (int)nameLength)), before, lengthAfter, body.Slice(HashAt, SHA256.HashSizeInBytes).ToArray());
    }
}
