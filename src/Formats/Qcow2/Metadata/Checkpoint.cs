using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Formats.Qcow2.Allocation;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Metadata;

/// <summary>Brings changed tables to the disk in an order that every power cut survives; the rule and its reasons are in the design notes ("Writing").</summary>
/// <remarks>
/// 1. refcount blocks (a moved table), flush, refcount table entries (the header), flush; 2. L2 entries, flush; 3. L1 entries, flush. Steps without
/// work are left out with their flushes. After any prefix of this, with anything unflushed lost or torn, every pointer on the disk leads to
/// flushed content, and no refcount on the disk is lower than the pointers to its cluster.
/// </remarks>
/// <param name="storage">The image.</param>
/// <param name="dataFile">Where guest data are, if not in the image.</param>
/// <param name="header">Its header.</param>
internal sealed class Checkpoint(Storage storage, Storage? dataFile, HeaderSector header)
{
    /// <summary>Set when a flush failed, or a header that leads elsewhere: what is on the disk is not known any more.</summary>
    public BlockException? Broken { get; private set; }

    /// <summary>Writes changes and makes them durable, and guest data with them.</summary>
    /// <param name="refcounts">Changed refcounts.</param>
    /// <param name="tables">Changed L1 and L2 entries.</param>
    /// <param name="deferRefcounts">Lazy refcounts, and the image says on the disk that it is dirty: what needs no new block can wait.</param>
    /// <param name="wasWrittenTo">Since the last one, by anybody.</param>
    /// <param name="cancellationToken">Stops between writes; the caller takes the changes back.</param>
    public async ValueTask RunAsync(
        RefcountChanges refcounts, TableChanges tables, bool deferRefcounts, bool wasWrittenTo, CancellationToken cancellationToken)
    {
        storage.Announce(StorageEvent.FlushToOs);
        var writesEntries = !deferRefcounts && refcounts.Entries.Count > 0;
        var (writesL2, writesL1) = (tables.Slices.Count > 0, tables.L1.Count > 0);
        if (!deferRefcounts)
        {
            foreach (var (at, bytes, _, _) in refcounts.Pieces)
            {
                storage.Announce(StorageEvent.RefblockUpdatePart);
                await storage.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
            }

            if (refcounts.TableMoved)
            {
                await WriteEntriesAsync(refcounts, cancellationToken).ConfigureAwait(false);
            }
        }

        // The one flush that is always due: guest data become durable here, before anything points to them.
        if (dataFile is not null)
        {
            await FlushAsync(dataFile, cancellationToken).ConfigureAwait(false);
        }

        await FlushOneAsync(isLast: !writesEntries && !writesL2 && !writesL1).ConfigureAwait(false);
        if (writesEntries)
        {
            if (refcounts.TableMoved)
            {
                storage.Announce(StorageEvent.RefblockAllocSwitchTable);
                header.Set64(Qcow2Header.RefcountTableOffsetAt, (ulong)refcounts.TableOffset.Value);
                header.Set32(Qcow2Header.RefcountTableClustersAt, (uint)refcounts.TableClusters);
                await WriteSwitchAsync().ConfigureAwait(false);
            }
            else
            {
                await WriteEntriesAsync(refcounts, cancellationToken).ConfigureAwait(false);
            }

            await FlushOneAsync(isLast: !writesL2 && !writesL1).ConfigureAwait(false);
        }

        if (writesL2)
        {
            foreach (var (at, bytes, _, _) in tables.Slices)
            {
                storage.Announce(StorageEvent.L2Update);
                await storage.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
            }

            await FlushOneAsync(isLast: !writesL1).ConfigureAwait(false);
        }

        if (writesL1)
        {
            foreach (var (at, bytes, _) in tables.L1)
            {
                storage.Announce(StorageEvent.L1Update);
                await storage.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
            }

            await FlushOneAsync(isLast: true).ConfigureAwait(false);
        }

        // As with QEMU the event is the guest's flush once, not those that keep the tables in order.
        ValueTask FlushOneAsync(bool isLast)
        {
            if (isLast && wasWrittenTo)
            {
                storage.Announce(StorageEvent.FlushToDisk);
            }

            return FlushAsync(storage, cancellationToken);
        }
    }

    /// <summary>Writes the header's changes with a flush before and behind.</summary>
    public async ValueTask WriteHeaderAsync(CancellationToken cancellationToken)
    {
        if (header.IsDirty)
        {
            await FlushAsync(storage, cancellationToken).ConfigureAwait(false);
            await header.WriteAsync(cancellationToken).ConfigureAwait(false);
            await FlushAsync(storage, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>The same for a header that leads to other tables or says another size. After an error the disk has the old one or the new one, and whoever went on with
    /// either would lose what he writes, so nobody does.</summary>
    public async ValueTask SwitchHeaderAsync()
    {
        await FlushAsync(storage, CancellationToken.None).ConfigureAwait(false);
        await WriteSwitchAsync().ConfigureAwait(false);
        await FlushAsync(storage, CancellationToken.None).ConfigureAwait(false);
    }

    /// <summary>Nothing more is to be written: memory and disk no longer agree.</summary>
    public void GiveUp(BlockException reason) => Broken ??= reason;

    /// <summary>Refuses to go on after such an error.</summary>
    public void ThrowIfBroken()
    {
        if (Broken is not null)
        {
            throw new BlockException(BlockErrorKind.Io, $"{storage.Name}: an earlier error leaves nothing to go on from, so nothing more is written: {Broken.Message}", Broken);
        }
    }

    private async ValueTask WriteEntriesAsync(RefcountChanges refcounts, CancellationToken cancellationToken)
    {
        foreach (var (at, bytes, _) in refcounts.Entries)
        {
            storage.Announce(refcounts.TableMoved ? StorageEvent.RefblockAllocWriteTable : StorageEvent.ReftableUpdate);
            await storage.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask WriteSwitchAsync()
    {
        try
        {
            await header.WriteAsync(CancellationToken.None).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            Broken = e;
            throw;
        }
    }

    private async ValueTask FlushAsync(Storage target, CancellationToken cancellationToken)
    {
        ThrowIfBroken();
        try
        {
            await target.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            Broken = e;
            throw;
        }
    }
}
