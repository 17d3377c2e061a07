using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Images;

/// <summary>Takes back a repair that wrote over some sectors, wrote behind the end of the file, or cut it.</summary>
/// <remarks>
/// As a file, all numbers little-endian:
/// <code>
///   0  8  magic "PLTUNDO2"          24  4  length of the name              40  8  zero
///   8  8  length before, bytes      28  4  number of sectors                48 32  SHA-256 of what was written behind the length before
///  16  8  length after, bytes       32  4  number of ranges of the tail   80  8  length of the guarded beginning, bytes
///                                   36  4  zero                           88 32  SHA-256 of it, with zeros for the sectors that change
/// then the image's name (UTF-8), the offset of each sector (8 bytes), the ranges of the tail that was cut off and is not zero (offset and length),
/// each sector before and after, the bytes of the ranges, SHA-256 of everything before it
/// </code>
/// The guarded beginning says where everything is: while it is as the repair left it, nobody has used what was cut off or given up. A sector that is as before or as
/// after is what it should be, so that a going back that was interrupted can be begun anew.
/// </remarks>
public sealed class OverwriteUndo : RepairUndo
{
    /// <summary>Sectors that a repair may change: 64 MiB of tables.</summary>
    public const int MaxSectors = 1 << 17;

    private const int FixedSize = 120, MaxNameBytes = 4096, MaxTails = 1 << 20, TailUnit = 64 * 1024;
    private const int LengthBeforeAt = 8, LengthAfterAt = 16, NameLengthAt = 24, SectorCountAt = 28, TailCountAt = 32, HashAt = 48, GuardLengthAt = 80, GuardHashAt = 88;

    private readonly string _name;
    private readonly long _lengthBefore, _lengthAfter;
    private readonly IReadOnlyList<(long Offset, byte[] Before, byte[] After)> _sectors;
    private readonly List<(long Offset, long Length)> _tails;
    private readonly byte[] _appendedHash;
    private readonly (long Length, byte[] Hash) _guard;

    // Where the bytes of the tail are: in the image when a repair is described, in the undo file when it is taken back.
    private readonly Storage _tailSource;
    private readonly long _tailAt;

    private OverwriteUndo(
        string name, long lengthBefore, long lengthAfter, IReadOnlyList<(long Offset, byte[] Before, byte[] After)> sectors, List<(long Offset, long Length)> tails,
        byte[] appendedHash, (long Length, byte[] Hash) guard, Storage tailSource, long tailAt)
    {
        (_name, _lengthBefore, _lengthAfter, _sectors, _tails) = (name, lengthBefore, lengthAfter, sectors, tails);
        (_appendedHash, _guard, _tailSource, _tailAt) = (appendedHash, guard, tailSource, tailAt);
    }

    /// <inheritdoc/>
    public override string ImageName => _name;

    /// <summary>What undo files of this form begin with.</summary>
    internal static ReadOnlySpan<byte> Magic => "PLTUNDO2"u8;

    /// <summary>Describes a repair that has written everything behind the end of the file, and nothing else yet.</summary>
    /// <param name="storage">The image. Read again when the undo file is written.</param>
    /// <param name="lengthBefore">Bytes it had.</param>
    /// <param name="lengthAfter">Bytes it will have.</param>
    /// <param name="sectors">What will be written over: offsets (multiples of 512) and 512 bytes each.</param>
    /// <param name="guarded">Bytes from the beginning of the file that say where everything is.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.LimitExceeded"/>: too many sectors or pieces of a tail for an undo file.</exception>
    public static async ValueTask<OverwriteUndo> DescribeAsync(
        Storage storage, long lengthBefore, long lengthAfter, IReadOnlyDictionary<long, byte[]> sectors, long guarded,
        CancellationToken cancellationToken = default)
    {
        if (sectors.Count > MaxSectors)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{storage.Name}: the repair changes {sectors.Count} sectors, more than an undo file can hold; nothing was changed");
        }

        var all = new List<(long Offset, byte[] Before, byte[] After)>(sectors.Count);
        foreach (var (offset, after) in sectors)
        {
            var before = new byte[Sizes.SectorBytes];
            _ = await storage.ReadAsync(new(offset), before, cancellationToken).ConfigureAwait(false);
            all.Add((offset, before, after));
        }

        var tails = await FindDataAsync(storage, lengthAfter, lengthBefore, cancellationToken).ConfigureAwait(false);
        var hash = await HashAsync(storage, lengthBefore, lengthAfter, cancellationToken).ConfigureAwait(false);
        var guard = await HashAsync(storage, 0, guarded, cancellationToken, [.. all.Select(sector => sector.Offset)]).ConfigureAwait(false);
        return new(storage.Name, lengthBefore, lengthAfter, all, tails, hash, (guarded, guard), storage, 0);
    }

    /// <inheritdoc/>
    public override async ValueTask WriteToAsync(Stream target, CancellationToken cancellationToken = default)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var name = Encoding.UTF8.GetBytes(_name);
        name = name.Length <= MaxNameBytes ? name : name[..MaxNameBytes];
        var head = new byte[FixedSize + name.Length + (_sectors.Count * 8) + (_tails.Count * 16)];
        Magic.CopyTo(head);
        BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(LengthBeforeAt), _lengthBefore);
        BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(LengthAfterAt), _lengthAfter);
        BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan(NameLengthAt), name.Length);
        BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan(SectorCountAt), _sectors.Count);
        BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan(TailCountAt), _tails.Count);
        _appendedHash.CopyTo(head, HashAt);
        BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(GuardLengthAt), _guard.Length);
        _guard.Hash.CopyTo(head, GuardHashAt);
        name.CopyTo(head, FixedSize);
        var at = FixedSize + name.Length;
        foreach (var (offset, _, _) in _sectors)
        {
            BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(at), offset);
            at += 8;
        }

        foreach (var (offset, length) in _tails)
        {
            BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(at), offset);
            BinaryPrimitives.WriteInt64LittleEndian(head.AsSpan(at + 8), length);
            at += 16;
        }

        await WriteAsync(head).ConfigureAwait(false);
        foreach (var (_, before, after) in _sectors)
        {
            await WriteAsync(before).ConfigureAwait(false);
            await WriteAsync(after).ConfigureAwait(false);
        }

        var buffer = new byte[TailUnit];
        foreach (var (offset, length) in _tails)
        {
            for (long done = 0; done < length; done += TailUnit)
            {
                var part = buffer.AsMemory(0, (int)Math.Min(TailUnit, length - done));
                await ReadAllAsync(_tailSource, offset + done, part, cancellationToken).ConfigureAwait(false);
                await WriteAsync(part).ConfigureAwait(false);
            }
        }

        await target.WriteAsync(hash.GetHashAndReset(), cancellationToken).ConfigureAwait(false);

        async ValueTask WriteAsync(ReadOnlyMemory<byte> bytes)
        {
            hash.AppendData(bytes.Span);
            await target.WriteAsync(bytes, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask ApplyAsync(Storage storage, CancellationToken cancellationToken = default)
    {
        var isBefore = storage.Length == _lengthBefore;
        var isKnown = storage.Length >= Math.Min(_lengthBefore, _lengthAfter) && storage.Length <= Math.Max(_lengthBefore, _lengthAfter);
        var sector = new byte[Sizes.SectorBytes];
        foreach (var (offset, before, after) in _sectors)
        {
            await ReadAllAsync(storage, offset, sector, cancellationToken).ConfigureAwait(false);
            isBefore &= sector.AsSpan().SequenceEqual(before);
            isKnown &= sector.AsSpan().SequenceEqual(after) || sector.AsSpan().SequenceEqual(before);
        }

        var guard = await HashAsync(storage, 0, _guard.Length, cancellationToken, [.. _sectors.Select(s => s.Offset)]).ConfigureAwait(false);
        isKnown &= guard.AsSpan().SequenceEqual(_guard.Hash);
        if (isKnown && storage.Length == _lengthAfter && _lengthAfter > _lengthBefore)
        {
            isKnown = (await HashAsync(storage, _lengthBefore, _lengthAfter, cancellationToken).ConfigureAwait(false)).AsSpan().SequenceEqual(_appendedHash);
        }

        if (!isKnown)
        {
            throw NotAsLeft(storage, _name);
        }

        if (isBefore && await HasTailAsync(storage, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{storage.Name}: the repair did not take place or has been taken back already");
        }

        cancellationToken.ThrowIfCancellationRequested();
        await RestoreTailAsync(storage).ConfigureAwait(false);
        foreach (var (offset, before, _) in _sectors)
        {
            await storage.WriteAsync(new(offset), before, CancellationToken.None).ConfigureAwait(false);
        }

        await storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        await storage.SetLengthAsync(_lengthBefore, CancellationToken.None).ConfigureAwait(false);
        await storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
    }

    internal static async ValueTask<OverwriteUndo> OpenAsync(Storage file, CancellationToken cancellationToken)
    {
        var head = new byte[FixedSize];
        var read = await file.ReadAsync(default, head, cancellationToken).ConfigureAwait(false);
        var (before, after) = (BinaryPrimitives.ReadInt64LittleEndian(head.AsSpan(LengthBeforeAt)), BinaryPrimitives.ReadInt64LittleEndian(head.AsSpan(LengthAfterAt)));
        var nameLength = BinaryPrimitives.ReadUInt32LittleEndian(head.AsSpan(NameLengthAt));
        var sectorCount = BinaryPrimitives.ReadUInt32LittleEndian(head.AsSpan(SectorCountAt));
        var tailCount = BinaryPrimitives.ReadUInt32LittleEndian(head.AsSpan(TailCountAt));
        if (read < FixedSize || nameLength > MaxNameBytes || sectorCount > MaxSectors || tailCount > MaxTails || before < 0 || after < 0
            || !await IsWholeAsync(file, cancellationToken).ConfigureAwait(false))
        {
            throw Damaged(file.Name);
        }

        var lists = new byte[nameLength + (sectorCount * 8) + (tailCount * 16)];
        var contents = new byte[sectorCount * 2 * Sizes.SectorBytes];
        await ReadAllAsync(file, FixedSize, lists, cancellationToken).ConfigureAwait(false);
        await ReadAllAsync(file, FixedSize + lists.Length, contents, cancellationToken).ConfigureAwait(false);
        var sectors = new List<(long Offset, byte[] Before, byte[] After)>();
        var at = (int)nameLength;
        for (var i = 0; i < sectorCount; i++, at += 8)
        {
            var content = contents.AsSpan(i * 2 * Sizes.SectorBytes, 2 * Sizes.SectorBytes);
            sectors.Add((
                BinaryPrimitives.ReadInt64LittleEndian(lists.AsSpan(at)), content[..Sizes.SectorBytes].ToArray(), content[Sizes.SectorBytes..].ToArray()));
        }

        var tails = new List<(long Offset, long Length)>();
        for (var i = 0; i < tailCount; i++, at += 16)
        {
            tails.Add((BinaryPrimitives.ReadInt64LittleEndian(lists.AsSpan(at)), BinaryPrimitives.ReadInt64LittleEndian(lists.AsSpan(at + 8))));
        }

        if (sectors.Exists(s => s.Offset < 0 || s.Offset > before) || tails.Exists(t => t.Offset < after || t.Length < 0 || t.Offset > before - t.Length))
        {
            throw Damaged(file.Name);
        }

        var guardLength = BinaryPrimitives.ReadInt64LittleEndian(head.AsSpan(GuardLengthAt));
        return new(
            Encoding.UTF8.GetString(lists.AsSpan(0, (int)nameLength)), before, after, sectors, tails, head.AsSpan(HashAt, SHA256.HashSizeInBytes).ToArray(),
            (Math.Clamp(guardLength, 0, Math.Max(before, after)), head.AsSpan(GuardHashAt, SHA256.HashSizeInBytes).ToArray()), file,
            FixedSize + lists.Length + contents.Length);
    }

    private async ValueTask<bool> HasTailAsync(Storage storage, CancellationToken cancellationToken)
    {
        var (wanted, there) = (new byte[TailUnit], new byte[TailUnit]);
        var source = _tailAt;
        foreach (var (offset, length) in _tails)
        {
            for (long done = 0; done < length; done += TailUnit)
            {
                var count = (int)Math.Min(TailUnit, length - done);
                await ReadAllAsync(_tailSource, source, wanted.AsMemory(0, count), cancellationToken).ConfigureAwait(false);
                await ReadAllAsync(storage, offset + done, there.AsMemory(0, count), cancellationToken).ConfigureAwait(false);
                if (!wanted.AsSpan(0, count).SequenceEqual(there.AsSpan(0, count)))
                {
                    return false;
                }

                source += count;
            }
        }

        return true;
    }

    private async ValueTask RestoreTailAsync(Storage storage)
    {
        if (_lengthBefore > _lengthAfter && storage.Length < _lengthBefore)
        {
            await storage.SetLengthAsync(_lengthBefore, CancellationToken.None).ConfigureAwait(false);
        }

        var buffer = new byte[TailUnit];
        var source = _tailAt;
        foreach (var (offset, length) in _tails)
        {
            for (long done = 0; done < length; done += TailUnit)
            {
                var part = buffer.AsMemory(0, (int)Math.Min(TailUnit, length - done));
                await ReadAllAsync(_tailSource, source, part, CancellationToken.None).ConfigureAwait(false);
                await storage.WriteAsync(new(offset + done), part, CancellationToken.None).ConfigureAwait(false);
                source += part.Length;
            }
        }

        await storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
    }

    private static async ValueTask<List<(long Offset, long Length)>> FindDataAsync(Storage storage, long from, long to, CancellationToken cancellationToken)
    {
        var found = new List<(long Offset, long Length)>();
        var buffer = new byte[TailUnit];
        for (var at = from; at < to;)
        {
            var extent = await storage.MapAsync(new(at), to - at, cancellationToken).ConfigureAwait(false);
            if (extent.ReadsZero)
            {
                at += extent.Length;
                continue;
            }

            var part = buffer.AsMemory(0, (int)Math.Min(TailUnit, Math.Min(extent.Length, to - at)));
            await ReadAllAsync(storage, at, part, cancellationToken).ConfigureAwait(false);
            if (part.Span.ContainsAnyExcept((byte)0))
            {
                if (found.Count > 0 && found[^1].Offset + found[^1].Length == at)
                {
                    found[^1] = (found[^1].Offset, found[^1].Length + part.Length);
                }
                else if (found.Count < MaxTails)
                {
                    found.Add((at, part.Length));
                }
                else
                {
                    throw new BlockException(BlockErrorKind.LimitExceeded, $"{storage.Name}: what would be cut off is in more pieces than an undo file can hold; nothing was changed");
                }
            }

            at += part.Length;
        }

        return found;
    }

    private static async ValueTask<bool> IsWholeAsync(Storage file, CancellationToken cancellationToken)
    {
        var length = file.Length - SHA256.HashSizeInBytes;
        if (length < FixedSize)
        {
            return false;
        }

        var stored = new byte[SHA256.HashSizeInBytes];
        await ReadAllAsync(file, length, stored, cancellationToken).ConfigureAwait(false);
        return (await HashAsync(file, 0, length, cancellationToken).ConfigureAwait(false)).AsSpan().SequenceEqual(stored);
    }

    private static async ValueTask<byte[]> HashAsync(
        Storage storage, long from, long to, CancellationToken cancellationToken, IReadOnlyList<long>? blanked = null)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[1 << 20];
        for (var at = from; at < to;)
        {
            var part = buffer.AsMemory(0, (int)Math.Min(buffer.Length, to - at));
            await ReadAllAsync(storage, at, part, cancellationToken).ConfigureAwait(false);
            foreach (var sector in (blanked ?? []).Where(sector => sector >= at && sector < at + part.Length))
            {
                part.Span.Slice((int)(sector - at), (int)Math.Min(Sizes.SectorBytes, at + part.Length - sector)).Clear();
            }

            hash.AppendData(part.Span);
            at += part.Length;
        }

        return hash.GetHashAndReset();
    }

    // What a file does not have any more reads as zeros.
    private static async ValueTask ReadAllAsync(Storage storage, long at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var read = await storage.ReadAsync(new(at), buffer, cancellationToken).ConfigureAwait(false);
        buffer.Span[read..].Clear();
    }
}
