using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Metadata;

/// <summary>The BAT of an image that is open for writing: pages read when needed, changes kept until a checkpoint writes the sectors that they lie in.</summary>
/// <remarks>
/// A page is 64 KiB of the file, aligned, so that its sectors are the file's; the first one has the header where 16 entries would be. Pages without entries cost
/// nothing. Clean pages are dropped when there are many; one that is dirty, or whose sectors are being written, stays. No I/O happens inside the gate. Thread-safe.
/// </remarks>
internal sealed class BatStore
{
    private const int PageBytes = 64 * 1024;
    private const int PageSlots = PageBytes / BatEntry.Size;
    private const int HeaderSlots = ParallelsHeader.Size / BatEntry.Size;
    private const int SectorSlots = Sizes.SectorBytes / BatEntry.Size;

    // 64 MiB of clean pages: with clusters of 1 MiB the BAT of 16 TiB.
    private const int MaxLoaded = 1024;

    // 16 MiB of changes; then a checkpoint is due.
    private const int MaxDirty = 256;

    private static readonly uint[] s_empty = new uint[PageSlots];

    private readonly Storage _storage;
    private readonly Lock _gate = new();
    private readonly SemaphoreSlim _loading = new(1, 1);
    private readonly Dictionary<int, UInt128> _dirty = [];
    private readonly Dictionary<int, UInt128> _busy = [];
    private uint[]?[] _pages;
    private int _loaded;
    private int _hand;

    /// <summary>A BAT of which nothing is known yet.</summary>
    public BatStore(Storage storage, long count)
    {
        _storage = storage;
        Count = count;
        _pages = new uint[]?[PagesFor(count)];
    }

    /// <summary>Number of entries.</summary>
    public long Count { get; private set; }

    /// <summary>Whether there are so many changes in memory that a checkpoint is due.</summary>
    public bool IsFull
    {
        get
        {
            lock (_gate)
            {
                return _dirty.Count > MaxDirty;
            }
        }
    }

    /// <summary>Goes through all entries as they are on the disk, and remembers which pages have none. Before anything else is asked.</summary>
    /// <param name="action">Told entries piece by piece: the index of the first, and all of them.</param>
    /// <param name="cancellationToken">Stops between pieces.</param>
    public async ValueTask ScanAsync(Action<long, ReadOnlyMemory<uint>> action, CancellationToken cancellationToken)
    {
        var bytes = new byte[PageBytes];
        var slots = new uint[PageSlots];
        for (var page = 0; page < _pages.Length; page++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            await ReadAsync(page, bytes, slots, cancellationToken).ConfigureAwait(false);
            if (!slots.AsSpan().ContainsAnyExcept(0U))
            {
                _pages[page] = s_empty;
                continue;
            }

            var from = page == 0 ? HeaderSlots : 0;
            action(((long)page * PageSlots) + from - HeaderSlots, slots.AsMemory(from, EndIn(page) - from));
        }
    }

    /// <summary>Takes every entry for 0, whatever is on the disk: an image that says it is empty.</summary>
    public void TakeAsEmpty() => Array.Fill(_pages, s_empty);

    /// <summary>The page of an entry, if it is in memory.</summary>
    public bool TryGetPage(long index, out BatPage page)
    {
        var (number, slot) = PlaceOf(index);
        var slots = Volatile.Read(ref Volatile.Read(ref _pages)[number]);
        page = slots is null ? default : new(slots, slot, EndIn(number));
        return slots is not null;
    }

    /// <summary>The page of an entry.</summary>
    /// <param name="index">Below <see cref="Count"/>.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    public ValueTask<BatPage> GetPageAsync(long index, CancellationToken cancellationToken) =>
        TryGetPage(index, out var page) ? new(page) : LoadAsync(index, cancellationToken);

    /// <summary>One entry.</summary>
    public async ValueTask<BatEntry> GetAsync(long index, CancellationToken cancellationToken)
    {
        var page = await GetPageAsync(index, cancellationToken).ConfigureAwait(false);
        return new(Volatile.Read(ref page.Slots[page.Index]));
    }

    /// <summary>Changes an entry in memory. Changes of one entry come one after the other.</summary>
    public async ValueTask SetAsync(long index, BatEntry entry, CancellationToken cancellationToken)
    {
        var (number, slot) = PlaceOf(index);
        while (true)
        {
            _ = await GetPageAsync(index, cancellationToken).ConfigureAwait(false);
            lock (_gate)
            {
                var slots = _pages[number];
                if (slots is null)
                {
                    // Dropped again meanwhile.
                    continue;
                }

                if (ReferenceEquals(slots, s_empty))
                {
                    slots = new uint[PageSlots];
                    Volatile.Write(ref _pages[number], slots);
                    _loaded++;
                }

                Volatile.Write(ref slots[slot], entry.Value);
                _dirty[number] = _dirty.GetValueOrDefault(number) | (UInt128.One << (slot / SectorSlots));
                return;
            }
        }
    }

    /// <summary>The sectors that changed, as they are now. They stay in memory until <see cref="Done"/>; one taker at a time.</summary>
    public List<(HostOffset At, byte[] Bytes)> Take()
    {
        List<(HostOffset At, byte[] Bytes)> result = [];
        lock (_gate)
        {
            foreach (var (page, mask) in _dirty)
            {
                for (var rest = mask; rest != 0;)
                {
                    var first = (int)UInt128.TrailingZeroCount(rest);
                    var behind = first;
                    while (behind < PageSlots / SectorSlots && (rest >> behind & 1) != 0)
                    {
                        rest &= ~(UInt128.One << behind);
                        behind++;
                    }

                    result.Add(Copy(page, first * SectorSlots, Math.Min(behind * SectorSlots, EndIn(page))));
                }

                _busy.Add(page, mask);
            }

            _dirty.Clear();
        }

        return result;
    }

    /// <summary>What was taken is on the disk.</summary>
    public void Done()
    {
        lock (_gate)
        {
            _busy.Clear();
        }
    }

    /// <summary>What was taken did not get there, or nobody knows.</summary>
    public void PutBack()
    {
        lock (_gate)
        {
            foreach (var (page, mask) in _busy)
            {
                _dirty[page] = _dirty.GetValueOrDefault(page) | mask;
            }

            _busy.Clear();
        }
    }

    /// <summary>Changes the number of entries; nothing is dirty, nobody asks meanwhile. Those that are new are 0 on the disk already.</summary>
    public void Resize(long count)
    {
        lock (_gate)
        {
            var pages = PagesFor(count);
            var old = _pages.Length;
            var last = _pages[old - 1];
            if (last is not null && !ReferenceEquals(last, s_empty))
            {
                // Behind the last entry a page has whatever is in the file there.
                _pages[old - 1] = null;
                _loaded--;
            }

            for (var i = pages; i < old - 1; i++)
            {
                _loaded -= _pages[i] is null || ReferenceEquals(_pages[i], s_empty) ? 0 : 1;
            }

            var next = _pages;
            Array.Resize(ref next, pages);
            Volatile.Write(ref _pages, next);
            Count = count;
        }
    }

    private static int PagesFor(long count) => (int)Sizes.DivideRoundingUp(BatEntry.PositionOf(count), PageBytes);

    private static (int Page, int Slot) PlaceOf(long index) => ((int)((index + HeaderSlots) / PageSlots), (int)((index + HeaderSlots) % PageSlots));

    private int EndIn(int page) => (int)Math.Min(PageSlots, Count + HeaderSlots - ((long)page * PageSlots));

    private (HostOffset At, byte[] Bytes) Copy(int page, int first, int behind)
    {
        first = page == 0 ? Math.Max(first, HeaderSlots) : first;
        var bytes = new byte[(behind - first) * BatEntry.Size];
        ReadOnlySpan<uint> slots = _pages[page].AsSpan(first, behind - first);
        if (BitConverter.IsLittleEndian)
        {
            MemoryMarshal.AsBytes(slots).CopyTo(bytes);
        }
        else
        {
            BinaryPrimitives.ReverseEndianness(slots, MemoryMarshal.Cast<byte, uint>(bytes.AsSpan()));
        }

        return (new(((long)page * PageBytes) + (first * BatEntry.Size)), bytes);
    }

    // One at a time, so that a page is never read while an older reading of it is still on its way into memory.
    private async ValueTask<BatPage> LoadAsync(long index, CancellationToken cancellationToken)
    {
        var (number, slot) = PlaceOf(index);
        await _loading.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (TryGetPage(index, out var page))
            {
                return page;
            }

            var slots = new uint[PageSlots];
            await ReadAsync(number, new byte[PageBytes], slots, cancellationToken).ConfigureAwait(false);
            var isEmpty = !slots.AsSpan().ContainsAnyExcept(0U);
            lock (_gate)
            {
                _pages[number] = isEmpty ? s_empty : slots;
                _loaded += isEmpty ? 0 : 1;
                DropSome(number);
            }

            return new(isEmpty ? s_empty : slots, slot, EndIn(number));
        }
        finally
        {
            _loading.Release();
        }
    }

    private async ValueTask ReadAsync(int page, byte[] bytes, uint[] slots, CancellationToken cancellationToken)
    {
        var from = page == 0 ? HeaderSlots : 0;
        var part = bytes.AsMemory(from * BatEntry.Size, (EndIn(page) - from) * BatEntry.Size);
        var at = new HostOffset(((long)page * PageBytes) + (from * BatEntry.Size));
        var read = await _storage.ReadAsync(at, part, cancellationToken).ConfigureAwait(false);
        ImageFormatException.ThrowIfShort(part.Span[..read], part.Length, _storage.Name, "BAT", at);
        slots.AsSpan().Clear();
        MemoryMarshal.Cast<byte, uint>(part.Span).CopyTo(slots.AsSpan(from));
        if (!BitConverter.IsLittleEndian)
        {
            BinaryPrimitives.ReverseEndianness(slots, slots);
        }
    }

    // A hand goes round and drops what is clean.
    private void DropSome(int keep)
    {
        for (var looked = 0; _loaded > MaxLoaded && looked < _pages.Length; looked++)
        {
            _hand = _hand + 1 < _pages.Length ? _hand + 1 : 0;
            if (_hand != keep && _pages[_hand] is { } slots && !ReferenceEquals(slots, s_empty) && !_dirty.ContainsKey(_hand) && !_busy.ContainsKey(_hand))
            {
                Volatile.Write(ref _pages[_hand], null);
                _loaded--;
            }
        }
    }
}
