using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Images;

/// <summary>Takes back a repair that wrote behind the end of the file, and then one sector.</summary>
/// <remarks>
/// As a file, all numbers little-endian:
/// <code>
///   0  8  magic "PLTUNDO1"          24  4  length of the name        32 512  the first sector before
///   8  8  length before, bytes      28  4  number of ranges         544 512  the first sector after
///  16  8  length after, bytes                                      1056  32  SHA-256 of what the ranges hold
/// then the image's name (UTF-8), the ranges (offset and length, 8 bytes each), SHA-256 of everything before it
/// </code>
/// It is played back only while the image is what the repair left: same length, same first sector, same bytes in what was written.
/// </remarks>
public sealed class SwitchUndo : RepairUndo
{
    private const int FixedSize = 1088, MaxNameBytes = 4096, MaxRanges = 1 << 20, RangeSize = 16;
    private const int LengthBeforeAt = 8, LengthAfterAt = 16, NameLengthAt = 24, RangeCountAt = 28, SectorBeforeAt = 32, SectorAfterAt = 544, ContentHashAt = 1056;

    private readonly string _name;
    private readonly long _lengthBefore;
    private readonly long _lengthAfter;
    private readonly byte[] _sectorBefore;
    private readonly byte[] _sectorAfter;
    private readonly List<(long Offset, long Length)> _ranges;
    private readonly byte[] _hash;

    private SwitchUndo(
        string name, long lengthBefore, long lengthAfter, byte[] sectorBefore, byte[] sectorAfter, List<(long Offset, long Length)> ranges, byte[] hash)
    {
        (_name, _lengthBefore, _lengthAfter) = (name, lengthBefore, lengthAfter);
        (_sectorBefore, _sectorAfter, _ranges, _hash) = (sectorBefore, sectorAfter, ranges, hash);
    }

    /// <inheritdoc/>
    public override string ImageName => _name;

    /// <summary>Describes a repair whose new parts have been written, before its first sector is.</summary>
    /// <param name="storage">The image.</param>
    /// <param name="lengthBefore">Bytes it had.</param>
    /// <param name="sectorBefore">Its first 512 bytes as they are.</param>
    /// <param name="sectorAfter">And as they will be.</param>
    /// <param name="ranges">What was written, all of it at or behind <paramref name="lengthBefore"/>.</param>
    /// <param name="cancellationToken">Stops.</param>
    public static async ValueTask<SwitchUndo> DescribeAsync(
        Storage storage, long lengthBefore, ReadOnlyMemory<byte> sectorBefore, ReadOnlyMemory<byte> sectorAfter,
        IReadOnlyList<(long Offset, long Length)> ranges, CancellationToken cancellationToken = default)
    {
        List<(long Offset, long Length)> list = [.. ranges];
        var hash = await HashAsync(storage, list, cancellationToken).ConfigureAwait(false);
        return new(storage.Name, lengthBefore, Math.Max(storage.Length, Sizes.SectorBytes), sectorBefore.ToArray(), sectorAfter.ToArray(), list, hash);
    }

    /// <summary>Reads an undo file.</summary>
    /// <exception cref="BlockException">It is none, or is damaged.</exception>
    public static SwitchUndo Parse(ReadOnlySpan<byte> bytes, string file)
    {
        if (bytes.Length < FixedSize + SHA256.HashSizeInBytes || !bytes.StartsWith("PLTUNDO1"u8))
        {
            throw NoUndoFile(file);
        }

        var body = bytes[..^SHA256.HashSizeInBytes];
        var nameLength = BinaryPrimitives.ReadUInt32LittleEndian(body[NameLengthAt..]);
        var rangeCount = BinaryPrimitives.ReadUInt32LittleEndian(body[RangeCountAt..]);
        if (!SHA256.HashData(body).AsSpan().SequenceEqual(bytes[^SHA256.HashSizeInBytes..])
            || nameLength > MaxNameBytes || rangeCount > MaxRanges || body.Length != FixedSize + nameLength + ((long)rangeCount * RangeSize))
        {
            throw Damaged(file);
        }

        var ranges = new List<(long Offset, long Length)>();
        for (var at = FixedSize + (int)nameLength; at < body.Length; at += RangeSize)
        {
            ranges.Add((BinaryPrimitives.ReadInt64LittleEndian(body[at..]), BinaryPrimitives.ReadInt64LittleEndian(body[(at + 8)..])));
        }

        var undo = new SwitchUndo(
            Encoding.UTF8.GetString(body.Slice(FixedSize, (int)nameLength)), BinaryPrimitives.ReadInt64LittleEndian(body[LengthBeforeAt..]),
            BinaryPrimitives.ReadInt64LittleEndian(body[LengthAfterAt..]), body.Slice(SectorBeforeAt, Sizes.SectorBytes).ToArray(),
            body.Slice(SectorAfterAt, Sizes.SectorBytes).ToArray(), ranges, body.Slice(ContentHashAt, SHA256.HashSizeInBytes).ToArray());
        if (undo._lengthBefore < 0 || undo._lengthAfter < Math.Max(undo._lengthBefore, Sizes.SectorBytes)
            || ranges.Exists(r => r.Offset < undo._lengthBefore || r.Length < 0 || r.Offset > undo._lengthAfter - r.Length))
        {
            throw Damaged(file);
        }

        return undo;
    }

    /// <summary>The undo file.</summary>
    public byte[] ToBytes()
    {
        var name = Encoding.UTF8.GetBytes(_name);
        name = name.Length <= MaxNameBytes ? name : name[..MaxNameBytes];
        var bytes = new byte[FixedSize + name.Length + (_ranges.Count * RangeSize) + SHA256.HashSizeInBytes];
        "PLTUNDO1"u8.CopyTo(bytes);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(LengthBeforeAt), _lengthBefore);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(LengthAfterAt), _lengthAfter);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(NameLengthAt), name.Length);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(RangeCountAt), _ranges.Count);
        _sectorBefore.CopyTo(bytes, SectorBeforeAt);
        _sectorAfter.CopyTo(bytes, SectorAfterAt);
        _hash.CopyTo(bytes, ContentHashAt);
        name.CopyTo(bytes, FixedSize);
        var at = FixedSize + name.Length;
        foreach (var (offset, length) in _ranges)
        {
            BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(at), offset);
            BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(at + 8), length);
            at += RangeSize;
        }

        SHA256.HashData(bytes.AsSpan(0, at)).CopyTo(bytes, at);
        return bytes;
    }

    /// <inheritdoc/>
    public override async ValueTask WriteToAsync(Stream target, CancellationToken cancellationToken = default) =>
        await target.WriteAsync(ToBytes(), cancellationToken).ConfigureAwait(false);

    /// <inheritdoc/>
    public override async ValueTask ApplyAsync(Storage storage, CancellationToken cancellationToken = default)
    {
        var sector = new byte[Sizes.SectorBytes];
        _ = await storage.ReadAsync(default, sector, cancellationToken).ConfigureAwait(false);
        if (sector.AsSpan().SequenceEqual(_sectorBefore) && !_sectorBefore.AsSpan().SequenceEqual(_sectorAfter))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{storage.Name}: the repair did not take place or has been taken back already");
        }

        if (!sector.AsSpan().SequenceEqual(_sectorAfter) || (storage.Length != _lengthAfter && !storage.HasFixedLength)
            || !(await HashAsync(storage, _ranges, cancellationToken).ConfigureAwait(false)).AsSpan().SequenceEqual(_hash))
        {
            throw NotAsLeft(storage, _name);
        }

        cancellationToken.ThrowIfCancellationRequested();
        await storage.WriteAsync(default, _sectorBefore, CancellationToken.None).ConfigureAwait(false);
        await storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        if (storage.HasFixedLength)
        {
            return;
        }

        await storage.SetLengthAsync(_lengthBefore, CancellationToken.None).ConfigureAwait(false);
        await storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
    }

    private static async ValueTask<byte[]> HashAsync(Storage storage, List<(long Offset, long Length)> ranges, CancellationToken cancellationToken)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[1 << 20];
        foreach (var (offset, length) in ranges)
        {
            for (long done = 0; done < length;)
            {
                var part = buffer.AsMemory(0, (int)Math.Min(buffer.Length, length - done));
                var read = await storage.ReadAsync(new(offset + done), part, cancellationToken).ConfigureAwait(false);
                part.Span[read..].Clear();
                hash.AppendData(part.Span);
                done += part.Length;
            }
        }

        return hash.GetHashAndReset();
    }
}
