using System.Globalization;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;
using Platter.Formats.Qcow2.Snapshots;

namespace Platter.Formats.Qcow2.Writing;

// Internal snapshots, each change of them in one switch of the header (see Qcow2Writer.Shadow.cs).
internal sealed partial class Qcow2Writer
{
    /// <inheritdoc/>
    public override ValueTask CreateSnapshotAsync(string name, DateTimeOffset date, CancellationToken cancellationToken = default)
    {
        if (_hasDataFile)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{_storage.Name}: an image with an external data file cannot have internal snapshots");
        }

        if (Encoding.UTF8.GetByteCount(name) > ushort.MaxValue)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{_storage.Name}: the name of a snapshot has at most {ushort.MaxValue} bytes");
        }

        return ShadowAsync(
            async state =>
            {
                var (entries, raw) = await ReadSnapshotsAsync(state, cancellationToken).ConfigureAwait(false);
                if (entries.Count >= Qcow2Header.MaxSnapshots)
                {
                    throw new BlockException(BlockErrorKind.LimitExceeded, $"{_storage.Name}: an image has at most {Qcow2Header.MaxSnapshots} snapshots");
                }

                var id = entries.Select(e => long.TryParse(e.Id, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0).Append(0).Max() + 1;
                await state.CountTreeAsync(state.L1, raise: true, cancellationToken).ConfigureAwait(false);

                // In a snapshot's table COPIED means nothing; it is written as 0.
                var l1 = state.L1.Select(e => e & ~L1Entry.CopiedFlag).ToArray();
                var at = l1.Length == 0 ? default : await state.WriteNewAsync(ShadowState.Bytes(l1), cancellationToken).ConfigureAwait(false);
                raw.Add(SnapshotTableEntry.Make(at, (uint)l1.Length, id.ToString(CultureInfo.InvariantCulture), name, date, state.VirtualSize));
                await WriteSnapshotsAsync(state, entries, raw, cancellationToken).ConfigureAwait(false);
            },
            cancellationToken);
    }

    /// <inheritdoc/>
    /// <remarks>Refused when there are bitmaps, as by QEMU: each would have to say what differs between two states, and nobody knows that.</remarks>
    public override ValueTask ApplySnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default) =>
        _bitmaps.Count == 0 ? GoToSnapshotAsync(selector, cancellationToken) : throw Refuse(BlockErrorKind.Unsupported, "Device has active dirty bitmaps");

    private ValueTask GoToSnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken) => ShadowAsync(
        async state =>
        {
            var (entries, _) = await ReadSnapshotsAsync(state, cancellationToken).ConfigureAwait(false);
            var entry = entries[Find(entries, selector)];
            var size = SnapshotTable.Validate(entry, entry.Name, _geometry, _storage.Name, state.VirtualSize);
            if (_geometry.Version == 2 && size != state.VirtualSize)
            {
                throw new BlockException(BlockErrorKind.Unsupported, $"{_storage.Name}: the snapshot has another size, and an image of version 2 cannot go back to it");
            }

            var l1 = await ReadL1Async(entry, cancellationToken).ConfigureAwait(false);
            await state.CountTreeAsync(l1, raise: true, cancellationToken).ConfigureAwait(false);
            await state.CountTreeAsync(state.L1, raise: false, cancellationToken).ConfigureAwait(false);
            var needed = _geometry.L1EntriesFor(size);
            if (l1.Length < needed)
            {
                Array.Resize(ref l1, (int)needed);
            }

            (state.L1, state.VirtualSize) = (l1, size);
        },
        cancellationToken,
        givesUpSpace: true);

    /// <inheritdoc/>
    public override async ValueTask DeleteSnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default)
    {
        try
        {
            await DeleteAtOnceAsync(selector, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.NoSpace && _checkpoint.Broken is null)
        {
            if (!await TryDeleteInStepsAsync(selector, cancellationToken).ConfigureAwait(false))
            {
                throw;
            }
        }
    }

    private ValueTask DeleteAtOnceAsync(SnapshotSelector selector, CancellationToken cancellationToken) => ShadowAsync(
        async state =>
        {
            var (entries, raw) = await ReadSnapshotsAsync(state, cancellationToken).ConfigureAwait(false);
            var index = Find(entries, selector);
            var entry = entries[index];
            _ = SnapshotTable.Validate(entry, entry.Name, _geometry, _storage.Name, state.VirtualSize);
            await state.CountTreeAsync(await ReadL1Async(entry, cancellationToken).ConfigureAwait(false), raise: false, cancellationToken).ConfigureAwait(false);
            state.Count((long)entry.L1TableOffset, (long)entry.L1Size * L1Entry.Size, raise: false);
            raw.RemoveAt(index);
            await WriteSnapshotsAsync(state, entries, raw, cancellationToken).ConfigureAwait(false);
        },
        cancellationToken,
        givesUpSpace: true);

    // The entries, and their bytes as they are: what we do not know in them is kept.
    private ValueTask<(IReadOnlyList<SnapshotTableEntry> Entries, List<byte[]> Raw)> ReadSnapshotsAsync(ShadowState state, CancellationToken cancellationToken) =>
        ReadSnapshotsAsync(state.Header.Header, cancellationToken);

    private async ValueTask<(IReadOnlyList<SnapshotTableEntry> Entries, List<byte[]> Raw)> ReadSnapshotsAsync(Qcow2Header header, CancellationToken cancellationToken)
    {
        var reader = new TableReader(_storage, _geometry);
        var entries = await SnapshotTable.ReadAsync(reader, header, long.MaxValue, cancellationToken).ConfigureAwait(false);
        var raw = new List<byte[]>();
        var at = new HostOffset((long)header.SnapshotsOffset);
        foreach (var entry in entries)
        {
            var bytes = new byte[entry.EntrySize];
            _ = await _storage.ReadAsync(at, bytes, cancellationToken).ConfigureAwait(false);
            raw.Add(bytes);
            at += entry.EntrySize;
        }

        return (entries, raw);
    }

    private static async ValueTask WriteSnapshotsAsync(
        ShadowState state, IReadOnlyList<SnapshotTableEntry> before, List<byte[]> now, CancellationToken cancellationToken)
    {
        state.Count((long)state.Header.Header.SnapshotsOffset, before.Sum(e => e.EntrySize), raise: false);
        var at = now.Count == 0 ? default : await state.WriteNewAsync(now.SelectMany(e => e).ToArray(), cancellationToken).ConfigureAwait(false);
        state.Header.Set64(Qcow2Header.SnapshotsOffsetAt, (ulong)at.Value);
        state.Header.Set32(Qcow2Header.NbSnapshotsAt, (uint)now.Count);
    }

    private async ValueTask<ulong[]> ReadL1Async(SnapshotTableEntry entry, CancellationToken cancellationToken)
    {
        var bytes = new byte[entry.L1Size * L1Entry.Size];
        if (bytes.Length > 0)
        {
            await new TableReader(_storage, _geometry).ReadAsync(
                new((long)entry.L1TableOffset), bytes, "L1 table of a snapshot", -1, cancellationToken).ConfigureAwait(false);
        }

        return BigEndianWords.ToHost(bytes).ToArray();
    }

    private int Find(IReadOnlyList<SnapshotTableEntry> entries, SnapshotSelector selector)
    {
        var infos = entries.Select(e => SnapshotTable.ToInfo(e, VirtualSize)).ToList();
        var found = selector.FindIn(infos);
        return found is null
            ? throw new BlockException(BlockErrorKind.NotFound, $"{_storage.Name}: no snapshot '{SafeText.Clean(selector.ToString(), 256)}'")
            : infos.FindIndex(i => ReferenceEquals(i, found));
    }
}
