using System.Globalization;
using System.Numerics;
using System.Text;
using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Bitmaps;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Writing;

// Persistent dirty bitmaps: the requests. How they come to the disk is in Qcow2Writer.BitmapStoring.cs, the reasons are in the design notes ("Bitmaps").
internal sealed partial class Qcow2Writer
{
    // So that what the bitmaps of a hostile image make us keep stays small: 2^36 bits are 16 MiB of empty chunks here, and 8 GiB of bitmaps in a file.
    private const long MaxTrackedBits = 1L << 36;
    private const long MaxTrackedTableBytes = 16 << 20;

    // One at a time says that the bitmaps are in use. Taken under a guest range, before nothing else.
    private readonly SemaphoreSlim _marking = new(1, 1);
    private IReadOnlyList<StoredBitmap> _bitmaps = [];
    private StoredBitmap[] _tracked = [];
    private volatile bool _areMarked;

    /// <inheritdoc/>
    public override IReadOnlyList<BitmapInfo> Bitmaps => [.. _bitmaps.Select(b => BitmapDirectory.ToInfo(b.Entry))];

    /// <summary>The directory's entries as they are now.</summary>
    public IReadOnlyList<BitmapDirectoryEntry> BitmapEntries => [.. _bitmaps.Select(b => b.Entry)];

    /// <summary>Takes over the bitmaps of the image; judges those that writes are to be tracked into, and reads their tables.</summary>
    /// <exception cref="BlockException">One cannot be tracked, so the image cannot be written to.</exception>
    public async ValueTask LoadBitmapsAsync(Qcow2Metadata metadata, CancellationToken cancellationToken)
    {
        if (metadata.BitmapsExtension is not { } extension)
        {
            return;
        }

        var list = new List<StoredBitmap>();
        var (bits, tableBytes) = (0L, 0L);
        foreach (var entry in metadata.Bitmaps)
        {
            var bitmap = new StoredBitmap(entry);
            if (bitmap.IsTracked)
            {
                bitmap.ThrowIfUnusable(_storage.Name);
                ThrowIfShort(entry);
                bits += Sizes.DivideRoundingUp(VirtualSize, entry.Granularity);
                tableBytes += entry.TableSize * (long)BitmapTableEntry.Size;
                if (bits > MaxTrackedBits || tableBytes > MaxTrackedTableBytes)
                {
                    throw new BlockException(BlockErrorKind.LimitExceeded, $"{_storage.Name}: its enabled bitmaps are too large to be kept up to date");
                }

                bitmap = await bitmap.LoadAsync(new TableReader(_storage, _geometry), _geometry, _regions, cancellationToken).ConfigureAwait(false);
            }

            list.Add(bitmap);
        }

        TakeOver(list, (long)extension.DirectoryOffset >> _geometry.ClusterBits, DirectoryOf(list, _geometry));
    }

    /// <inheritdoc/>
    public override ValueTask NoteChangeAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        if (_tracked.Length == 0 || length <= 0)
        {
            return ValueTask.CompletedTask;
        }

        if (!_areMarked)
        {
            return MarkAndNoteAsync(at, length, cancellationToken);
        }

        foreach (var bitmap in _tracked)
        {
            bitmap.Changes!.Set(at, length);
        }

        return ValueTask.CompletedTask;
    }

    /// <summary>The dirty ranges of a bitmap, those that are not stored yet included.</summary>
    /// <returns>Null when there is no such bitmap.</returns>
    public IAsyncEnumerable<DirtyRange>? ReadBitmap(string name, CancellationToken cancellationToken)
    {
        if (_bitmaps.FirstOrDefault(b => b.Entry.Name == name) is not { } bitmap)
        {
            return null;
        }

        bitmap.ThrowIfUnusable(_storage.Name);
        var stored = BitmapReader.ReadAsync(new TableReader(_storage, _geometry), _geometry, bitmap.Entry, VirtualSize, cancellationToken);
        return bitmap.Changes is { } changes ? DirtyRanges.UnionAsync(stored, changes.Ranges(), cancellationToken) : stored;
    }

    /// <inheritdoc/>
    public override ValueTask AddBitmapsAsync(IReadOnlyList<NewBitmap> bitmaps, CancellationToken cancellationToken = default) => ChangeBitmapsAsync(
        async change =>
        {
            foreach (var bitmap in bitmaps)
            {
                var granularityBits = JudgeNew(bitmap, change.Next);
                await BitmapExtensionSwitch.ThrowIfFullAsync(_storage, _header, cancellationToken).ConfigureAwait(false);
                var content = await CollectAsync(bitmap.Content, granularityBits, cancellationToken).ConfigureAwait(false);
                var entry = BitmapDirectoryEntry.Make(bitmap.Name, granularityBits, bitmap.Enabled ? BitmapFlags.Auto : BitmapFlags.None);
                change.Next.Add(await WriteTableAsync(change, new(entry) { Table = [] }, content, VirtualSize, cancellationToken).ConfigureAwait(false));
            }
        },
        cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask RemoveBitmapAsync(string name, CancellationToken cancellationToken = default)
    {
        try
        {
            await RemoveAsync(name, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.NoSpace && _checkpoint.Broken is null)
        {
            // There is no room for another list. The last one of a list goes without; becoming that is mostly the matter of one sector.
            await ChangeBitmapsAsync(
                change =>
                {
                    var index = IndexOf(change.Next, name);
                    var bitmap = change.Next[index];
                    change.Next.RemoveAt(index);
                    change.Next.Add(bitmap);
                    return ValueTask.CompletedTask;
                },
                cancellationToken).ConfigureAwait(false);
            await RemoveAsync(name, cancellationToken).ConfigureAwait(false);
        }
    }

    private ValueTask RemoveAsync(string name, CancellationToken cancellationToken) => ChangeBitmapsAsync(
        async change =>
        {
            var index = IndexOf(change.Next, name);
            var bitmap = change.Next[index];
            change.Next.RemoveAt(index);
            try
            {
                bitmap = await bitmap.LoadAsync(new TableReader(_storage, _geometry), _geometry, _regions, cancellationToken).ConfigureAwait(false);
            }
            catch (ImageFormatException)
            {
                // Nobody can tell what a broken table has: its clusters become leaks, which a repair finds.
                bitmap = bitmap with { Table = [] };
            }

            GiveUpTable(change, bitmap, []);
        },
        cancellationToken);

    /// <inheritdoc/>
    public override ValueTask ClearBitmapAsync(string name, CancellationToken cancellationToken = default) => ChangeBitmapsAsync(
        async change =>
        {
            var (index, bitmap) = await UsableAsync(change, name, cancellationToken).ConfigureAwait(false);
            GiveUpTable(change, bitmap, []);
            change.Next[index] = await WriteTableAsync(change, bitmap with { Table = [] }, null, VirtualSize, cancellationToken).ConfigureAwait(false);
        },
        cancellationToken);

    /// <inheritdoc/>
    public override ValueTask MergeBitmapAsync(string name, IAsyncEnumerable<DirtyRange> ranges, CancellationToken cancellationToken = default) => ChangeBitmapsAsync(
        async change =>
        {
            var (index, bitmap) = await UsableAsync(change, name, cancellationToken).ConfigureAwait(false);
            var bits = await CollectAsync(ranges, bitmap.Entry.GranularityBits, cancellationToken).ConfigureAwait(false);
            var merged = await WriteTableAsync(change, bitmap, bits, VirtualSize, cancellationToken).ConfigureAwait(false);
            GiveUpTable(change, bitmap, merged.Table!);
            change.Next[index] = merged;
        },
        cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask SetBitmapEnabledAsync(string name, bool enabled, CancellationToken cancellationToken = default)
    {
        await StoreBitmapsAsync(cancellationToken).ConfigureAwait(false);
        _checkpoint.ThrowIfBroken();
        var change = new BitmapChange(_bitmaps);
        var (index, bitmap) = await UsableAsync(change, name, cancellationToken).ConfigureAwait(false);
        var flags = bitmap.Entry.Flags & ~BitmapFlags.Auto;
        change.Next[index] = bitmap with { Entry = bitmap.Entry.WithFlags(enabled ? flags | BitmapFlags.Auto : flags) };

        // A flag lies in one sector: it is changed where it is.
        await WriteFlagsAsync(change.Next, static _ => false, cancellationToken).ConfigureAwait(false);
        TakeOver(change.Next, _directoryCluster, _directory);
    }

    /// <inheritdoc/>
    /// <remarks>As QEMU does: bitmaps keep their bits as far as the disk goes, and new parts of the disk are clean. An inconsistent bitmap forbids it.</remarks>
    public override async ValueTask ResizeAsync(
        long virtualSize, long backingSize, ResizePreallocation preallocation, CancellationToken cancellationToken = default)
    {
        if (_bitmaps.Count == 0 || virtualSize < 0 || virtualSize % Sizes.SectorBytes != 0)
        {
            await ResizeDiskAsync(virtualSize, backingSize, preallocation, cancellationToken).ConfigureAwait(false);
            return;
        }

        foreach (var bitmap in _bitmaps)
        {
            bitmap.ThrowIfUnusable(_storage.Name);
            ThrowIfTooLarge(bitmap.Entry.Name, virtualSize, bitmap.Entry.GranularityBits);
        }

        await StoreBitmapsAsync(cancellationToken).ConfigureAwait(false);
        var change = new BitmapChange(_bitmaps);
        var fits = virtualSize >= VirtualSize;
        for (var i = 0; i < change.Next.Count; i++)
        {
            var (_, bitmap) = await UsableAsync(change, change.Next[i].Entry.Name, cancellationToken).ConfigureAwait(false);
            fits &= StoredBitmap.EntriesFor(virtualSize, bitmap.Entry.GranularityBits, _geometry) == bitmap.Table!.Length
                && !new BitmapTableEntry(bitmap.Table[^1]).IsAllOnes;
        }

        if (fits)
        {
            // The new bits are there already, and are 0.
            await ResizeDiskAsync(virtualSize, backingSize, preallocation, cancellationToken).ConfigureAwait(false);
            TakeOver(change.Next, _directoryCluster, _directory);
            return;
        }

        await ResizeWithTablesAsync(change, virtualSize, backingSize, preallocation, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask MarkAndNoteAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        await _marking.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (!_areMarked)
            {
                _checkpoint.ThrowIfBroken();
                await WriteFlagsAsync(_bitmaps, static b => b.IsTracked, cancellationToken).ConfigureAwait(false);
                _areMarked = true;
            }
        }
        finally
        {
            _marking.Release();
        }

        await NoteChangeAsync(at, length, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<DirtyBits?> CollectAsync(IAsyncEnumerable<DirtyRange>? ranges, int granularityBits, CancellationToken cancellationToken)
    {
        if (ranges is null)
        {
            return null;
        }

        var bits = new DirtyBits(VirtualSize, granularityBits);
        await foreach (var range in ranges.WithCancellation(cancellationToken).ConfigureAwait(false))
        {
            bits.Set(range.Offset, range.Length);
        }

        return bits;
    }

    private int JudgeNew(NewBitmap bitmap, List<StoredBitmap> others)
    {
        var name = SafeText.Clean(bitmap.Name, 256);
        if (_geometry.Version < 3)
        {
            throw Refuse(BlockErrorKind.Unsupported, $"Can't make bitmap '{name}' persistent: Cannot store dirty bitmaps in qcow2 v2 files");
        }

        if (bitmap.Name.Length == 0)
        {
            throw Refuse(BlockErrorKind.InvalidRequest, "Bitmap name cannot be empty");
        }

        if (Encoding.UTF8.GetByteCount(bitmap.Name) > BitmapDirectoryEntry.MaxNameBytes)
        {
            throw Refuse(BlockErrorKind.InvalidRequest, $"Can't make the bitmap persistent: Name length exceeds maximum ({BitmapDirectoryEntry.MaxNameBytes} bytes)");
        }

        if (others.Any(b => b.Entry.Name == bitmap.Name))
        {
            throw Refuse(BlockErrorKind.InvalidRequest, $"Bitmap already exists: {name}");
        }

        var granularity = bitmap.Granularity ?? Math.Clamp(_geometry.ClusterSize, 4096, 65536);
        if (!Sizes.IsPowerOfTwo(granularity) || granularity < 1L << BitmapDirectoryEntry.MinGranularityBits
            || granularity > 1L << BitmapDirectoryEntry.MaxGranularityBits)
        {
            throw Refuse(BlockErrorKind.InvalidRequest, "Granularity must be power of 2 and at least 512");
        }

        var granularityBits = BitOperations.Log2((ulong)granularity);
        ThrowIfTooLarge(bitmap.Name, VirtualSize, granularityBits);
        return others.Count < BitmapsExtension.MaxBitmaps
            ? granularityBits
            : throw Refuse(BlockErrorKind.LimitExceeded, $"an image has at most {BitmapsExtension.MaxBitmaps} bitmaps");
    }

    private void ThrowIfTooLarge(string name, long virtualSize, int granularityBits)
    {
        if (virtualSize == 0)
        {
            throw Refuse(BlockErrorKind.InvalidRequest, "a disk of 0 bytes cannot have bitmaps");
        }

        var entries = StoredBitmap.EntriesFor(virtualSize, granularityBits, _geometry);
        if (entries > BitmapDirectoryEntry.MaxTableEntries || entries << _geometry.ClusterBits > BitmapDirectoryEntry.MaxPayloadBytes)
        {
            throw Refuse(
                BlockErrorKind.LimitExceeded,
                $"Can't make bitmap '{SafeText.Clean(name, 256)}' persistent: Too much space will be occupied by the bitmap. Use larger granularity");
        }
    }

    private void ThrowIfShort(BitmapDirectoryEntry entry)
    {
        if (StoredBitmap.EntriesFor(VirtualSize, entry.GranularityBits, _geometry) is var needed && needed > entry.TableSize)
        {
            throw new ImageFormatException(
                _storage.Name, $"bitmap '{SafeText.Clean(entry.Name, 64)}'", entry.At, "bitmap_table_size", entry.TableSize.ToString(CultureInfo.InvariantCulture),
                $"a disk of {VirtualSize} bytes needs {needed} entries");
        }
    }

    private int IndexOf(List<StoredBitmap> bitmaps, string name)
    {
        var index = bitmaps.FindIndex(b => b.Entry.Name == name);
        return index >= 0 ? index : throw Refuse(BlockErrorKind.NotFound, $"Dirty bitmap '{SafeText.Clean(name, 256)}' not found");
    }

    private async ValueTask<(int Index, StoredBitmap Bitmap)> UsableAsync(BitmapChange change, string name, CancellationToken cancellationToken)
    {
        var index = IndexOf(change.Next, name);
        var bitmap = change.Next[index];
        bitmap.ThrowIfUnusable(_storage.Name);
        ThrowIfShort(bitmap.Entry);
        bitmap = await bitmap.LoadAsync(new TableReader(_storage, _geometry), _geometry, _regions, cancellationToken).ConfigureAwait(false);
        change.Next[index] = bitmap;
        return (index, bitmap);
    }

    private BlockException Refuse(BlockErrorKind kind, string problem) => new(kind, $"{_storage.Name}: {problem}");
}
