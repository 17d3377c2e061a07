using System.Numerics;
using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bitmaps;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Writing;

// Dirty bitmaps: the requests. All bits are in memory while the image is open for writing. The extension on the disk is dead from the first change on, and a new one
// is written when the image is closed, or when bitmaps are changed: beside the old one, with one sector of the header as the switch.
internal sealed partial class ParallelsWriter
{
    // So that what a hostile image makes us keep stays small: 2^36 bits are 16 MiB of empty chunks.
    private const long MaxTrackedBits = 1L << 36;
    private const int MaxBitmaps = 1024;

    private readonly ImageExtension _extension;
    private IReadOnlyList<TrackedBitmap> _bitmaps = [];

    /// <inheritdoc/>
    public override IReadOnlyList<BitmapInfo> Bitmaps => [.. _bitmaps.Select(b => b.ToInfo())];

    /// <summary>Reads the bits of every bitmap.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.LimitExceeded"/>: there are too many to be kept up to date.</exception>
    public async ValueTask LoadBitmapsAsync(CancellationToken cancellationToken)
    {
        List<TrackedBitmap> list = [];
        var bits = 0L;
        for (var i = 0; i < _extension.Bitmaps.Count; i++)
        {
            var stored = _extension.Bitmaps[i];
            var bitmap = new TrackedBitmap(
                stored.Id, _extension.BitmapFlags[i], new DirtyBits(VirtualSize, BitOperations.Log2(stored.GranularitySectors) + Sizes.SectorBits));
            bits += bitmap.Bits.Count;
            if (bits > MaxTrackedBits)
            {
                throw Refuse(BlockErrorKind.LimitExceeded, "its bitmaps are too large to be kept up to date");
            }

            await foreach (var range in BitmapReader.ReadAsync(stored, _storage, _geometry, cancellationToken).ConfigureAwait(false))
            {
                bitmap.Bits.Set(range.Offset, range.Length);
            }

            list.Add(bitmap);
        }

        _bitmaps = list;
        _extensionClusters = [.. _extension.Clusters.Select(at => (at - _gridStart) / ClusterSize)];
    }

    /// <inheritdoc/>
    /// <remarks>Also what makes the header say "Ynot" before a write that changes nothing but data.</remarks>
    public override ValueTask NoteChangeAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        if (!_isMarked)
        {
            return MarkAndNoteAsync(at, length, cancellationToken);
        }

        foreach (var bitmap in _bitmaps)
        {
            bitmap.Bits.Set(at, length);
        }

        return ValueTask.CompletedTask;
    }

    /// <summary>The dirty ranges of a bitmap as it is now, or null when there is none of that name.</summary>
    public IAsyncEnumerable<DirtyRange>? ReadBitmap(string name)
    {
        return Find(_bitmaps, name) is { } bitmap ? ReadAsync(bitmap.Bits) : null;

        static async IAsyncEnumerable<DirtyRange> ReadAsync(DirtyBits bits)
        {
            foreach (var range in bits.Ranges())
            {
                yield return range;
            }

            await Task.CompletedTask.ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask AddBitmapsAsync(IReadOnlyList<NewBitmap> bitmaps, CancellationToken cancellationToken = default)
    {
        List<TrackedBitmap> next = [.. _bitmaps];
        foreach (var bitmap in bitmaps)
        {
            var made = Make(bitmap, next);
            next.Add(made);
            ThrowIfBitmapsDoNotFit(next.Select(b => b.Bits.GranularityBits), VirtualSize);
            await AddRangesAsync(made, bitmap.Content, cancellationToken).ConfigureAwait(false);
        }

        await ChangeBitmapsAsync(next, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override ValueTask RemoveBitmapAsync(string name, CancellationToken cancellationToken = default)
    {
        var bitmap = Existing(name);
        return ChangeBitmapsAsync([.. _bitmaps.Where(b => b != bitmap)], cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask ClearBitmapAsync(string name, CancellationToken cancellationToken = default)
    {
        var bitmap = Existing(name);
        return ChangeBitmapsAsync([.. _bitmaps.Select(b => b == bitmap ? b.Copy(withContent: false) : b)], cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask SetBitmapEnabledAsync(string name, bool enabled, CancellationToken cancellationToken = default)
    {
        _ = Existing(name);
        return enabled
            ? ValueTask.CompletedTask
            : throw Refuse(BlockErrorKind.Unsupported, "a bitmap of this format cannot be disabled: writes are always tracked into it");
    }

    /// <inheritdoc/>
    public override async ValueTask MergeBitmapAsync(string name, IAsyncEnumerable<DirtyRange> ranges, CancellationToken cancellationToken = default)
    {
        var bitmap = Existing(name);
        var merged = bitmap.Copy(withContent: true);
        await AddRangesAsync(merged, ranges, cancellationToken).ConfigureAwait(false);
        await ChangeBitmapsAsync([.. _bitmaps.Select(b => b == bitmap ? merged : b)], cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override ValueTask StoreBitmapsAsync(CancellationToken cancellationToken = default) =>
        _isMarked && _bitmaps.Count > 0 ? StoreAsync(cancellationToken) : ValueTask.CompletedTask;

    private async ValueTask StoreAsync(CancellationToken cancellationToken) => _ = await FinishAsync(closes: false, cancellationToken).ConfigureAwait(false);

    private async ValueTask MarkAndNoteAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        await EnsureInUseAsync(cancellationToken).ConfigureAwait(false);
        await NoteChangeAsync(at, length, cancellationToken).ConfigureAwait(false);
    }

    // Stores the list as it is to be; it is the current one once the header says so.
    private async ValueTask ChangeBitmapsAsync(IReadOnlyList<TrackedBitmap> next, CancellationToken cancellationToken)
    {
        if (_hasForgottenEntries)
        {
            await EnsureInUseAsync(cancellationToken).ConfigureAwait(false);
        }

        var current = _bitmaps;
        _bitmaps = next;
        _isTouched = true;
        try
        {
            await StoreAsync(cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            _bitmaps = current;
            throw;
        }
    }

    private TrackedBitmap Make(NewBitmap bitmap, List<TrackedBitmap> others)
    {
        var name = SafeText.Clean(bitmap.Name, 256);
        if (!Guid.TryParse(bitmap.Name, out var id))
        {
            throw Refuse(
                BlockErrorKind.InvalidRequest, $"Bitmap name '{name}' is not a UUID, which is the only name that a bitmap of this format has (such as {DirtyBitmapFeature.NameOf(Guid.NewGuid())})");
        }

        if (others.Exists(b => b.Id == id))
        {
            throw Refuse(BlockErrorKind.InvalidRequest, $"Bitmap already exists: {name}");
        }

        if (!bitmap.Enabled)
        {
            throw Refuse(BlockErrorKind.Unsupported, $"bitmap '{name}' is disabled, and a bitmap of this format cannot be");
        }

        // As the peers choose for other formats, whatever the cluster size.
        var granularity = bitmap.Granularity ?? Math.Clamp(1L << BitOperations.Log2((ulong)ClusterSize), 4096, 65536);
        if (!Sizes.IsPowerOfTwo(granularity) || granularity < Sizes.SectorBytes || granularity > DirtyBitmapFeature.MaxGranularitySectors * (long)Sizes.SectorBytes)
        {
            throw Refuse(BlockErrorKind.InvalidRequest, "Granularity must be power of 2 and at least 512");
        }

        if (VirtualSize == 0)
        {
            throw Refuse(BlockErrorKind.InvalidRequest, "a disk of 0 bytes cannot have bitmaps");
        }

        var bits = Sizes.DivideRoundingUp(VirtualSize, granularity) + others.Sum(b => b.Bits.Count);
        return others.Count < MaxBitmaps && bits <= MaxTrackedBits
            ? new(id, 0, new DirtyBits(VirtualSize, BitOperations.Log2((ulong)granularity)))
            : throw Refuse(BlockErrorKind.LimitExceeded, "there would be too many bitmaps, or they would be too large. Use larger granularity");
    }

    private static async ValueTask AddRangesAsync(TrackedBitmap bitmap, IAsyncEnumerable<DirtyRange>? ranges, CancellationToken cancellationToken)
    {
        if (ranges is not null)
        {
            await foreach (var range in ranges.WithCancellation(cancellationToken).ConfigureAwait(false))
            {
                bitmap.Bits.Set(range.Offset, range.Length);
            }
        }
    }

    private static TrackedBitmap? Find(IEnumerable<TrackedBitmap> bitmaps, string name) =>
        Guid.TryParse(name, out var id) ? bitmaps.FirstOrDefault(b => b.Id == id) : null;

    private TrackedBitmap Existing(string name) => Find(_bitmaps, name) ?? throw Refuse(BlockErrorKind.NotFound, NoBitmap(name).Message);

    private BlockException Refuse(BlockErrorKind kind, string problem) => new(kind, $"{_storage.Name}: {problem}");
}
