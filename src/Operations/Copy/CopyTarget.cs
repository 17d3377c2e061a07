using System.Buffers;
using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Operations.Copy;

/// <summary>Where a copy goes. Any number of workers write at once, each to ranges of its own.</summary>
public abstract class CopyTarget
{
    private protected CopyTarget()
    {
    }

    /// <summary>Guest bytes, a power of two up to 2 MiB: what the target allocates at once, or a part of it. Pieces of a copy begin and end at multiples of it where
    /// that is possible.</summary>
    public abstract long Unit { get; }

    /// <summary>Every write must be one whole unit (the last one may be cut by the end of the disk).</summary>
    public virtual bool WritesWholeUnits => false;

    /// <summary>Takes everything and keeps nothing: a copy that only reads.</summary>
    public static CopyTarget Nowhere { get; } = new ToNowhere();

    /// <summary>A storage that gets the disk's bytes as they are.</summary>
    /// <param name="storage">Large enough.</param>
    /// <param name="start">Where the disk's first byte goes.</param>
    public static CopyTarget Of(Storage storage, HostOffset start = default) => new ToStorage(storage, start);

    /// <summary>A writable disk.</summary>
    /// <param name="node">Large enough.</param>
    /// <param name="unit">What it allocates at once, in guest bytes.</param>
    public static CopyTarget Of(BlockNode node, long unit) => new ToNode(node, unit);

    /// <summary>A writable disk whose clusters are written compressed.</summary>
    /// <param name="node">Large enough; its format can compress.</param>
    /// <param name="unit">Its clusters, in bytes.</param>
    public static CopyTarget Compressed(BlockNode node, long unit) => new ToCompressedNode(node, unit);

    /// <summary>A target that is read before it is written: what it has already is not written again. For copies that were interrupted.</summary>
    /// <param name="target">What to write to.</param>
    /// <param name="content">The same disk, for reading.</param>
    public static CopyTarget Completing(CopyTarget target, BlockNode content) => new OfDifferences(target, content);

    /// <summary>Writes a piece.</summary>
    public abstract ValueTask WriteAsync(GuestOffset at, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken);

    /// <summary>Makes a range read as zeros; space may be given up.</summary>
    public abstract ValueTask WriteZeroesAsync(GuestOffset at, long length, CancellationToken cancellationToken);

    /// <summary>Lets the host copy, if it can.</summary>
    /// <returns>Bytes copied.</returns>
    public virtual long TryCopyFrom(Storage source, HostOffset from, GuestOffset at, long length) => 0;

    /// <summary>Makes everything durable.</summary>
    public abstract ValueTask FlushAsync(CancellationToken cancellationToken);

    private sealed class ToStorage(Storage storage, HostOffset start) : CopyTarget
    {
        public override long Unit => 1;

        public override ValueTask WriteAsync(GuestOffset at, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken) =>
            storage.WriteAsync(start + at.Value, bytes, cancellationToken);

        public override ValueTask WriteZeroesAsync(GuestOffset at, long length, CancellationToken cancellationToken) =>
            storage.WriteZeroesAsync(start + at.Value, length, mayUnmap: true, cancellationToken);

        public override long TryCopyFrom(Storage source, HostOffset from, GuestOffset at, long length) =>
            storage.TryCopyFrom(source, from, start + at.Value, length);

        public override ValueTask FlushAsync(CancellationToken cancellationToken) => storage.FlushAsync(cancellationToken);
    }

    private sealed class ToNowhere : CopyTarget
    {
        public override long Unit => 1;

        public override ValueTask WriteAsync(GuestOffset at, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken) => ValueTask.CompletedTask;

        public override ValueTask WriteZeroesAsync(GuestOffset at, long length, CancellationToken cancellationToken) => ValueTask.CompletedTask;

        public override ValueTask FlushAsync(CancellationToken cancellationToken) => ValueTask.CompletedTask;
    }

    private class ToNode(BlockNode node, long unit) : CopyTarget
    {
        private const long MaxUnit = 2 << 20;

        // Units that are no power of two, or larger than what is copied at once, are met by several requests: the first gives the unit its place.
        public override long Unit { get; } = Math.Min(unit & -unit, MaxUnit);

        protected BlockNode Node => node;

        public override ValueTask WriteAsync(GuestOffset at, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken) =>
            node.WriteAsync(at, bytes, WriteFlags.None, cancellationToken);

        // What reads as zeros already is left alone: an image shall not grow by clusters that say so once more.
        public override async ValueTask WriteZeroesAsync(GuestOffset at, long length, CancellationToken cancellationToken)
        {
            for (var end = at + length; at < end;)
            {
                var extent = await node.MapAsync(at, end - at, MapDetail.StorageHoles, cancellationToken).ConfigureAwait(false);
                if (!extent.ReadsZero)
                {
                    await node.WriteZeroesAsync(at, extent.Length, WriteFlags.MayUnmap, cancellationToken).ConfigureAwait(false);
                }

                at = extent.End;
            }
        }

        public override ValueTask FlushAsync(CancellationToken cancellationToken) => node.FlushAsync(cancellationToken);
    }

    private sealed class OfDifferences(CopyTarget target, BlockNode content) : CopyTarget
    {
        public override long Unit => target.Unit;

        public override bool WritesWholeUnits => target.WritesWholeUnits;

        public override async ValueTask WriteAsync(GuestOffset at, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
        {
            // What is not stored yet need not be looked at: it is to be written, zeros never get here.
            if (await IsStoredAsync(at, bytes.Length, cancellationToken).ConfigureAwait(false))
            {
                var buffer = ArrayPool<byte>.Shared.Rent(bytes.Length);
                try
                {
                    var there = buffer.AsMemory(0, bytes.Length);
                    await content.ReadAsync(at, there, cancellationToken).ConfigureAwait(false);
                    if (there.Span.SequenceEqual(bytes.Span))
                    {
                        return;
                    }
                }
                finally
                {
                    ArrayPool<byte>.Shared.Return(buffer);
                }
            }

            await target.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
        }

        public override ValueTask WriteZeroesAsync(GuestOffset at, long length, CancellationToken cancellationToken) =>
            target.WriteZeroesAsync(at, length, cancellationToken);

        public override ValueTask FlushAsync(CancellationToken cancellationToken) => target.FlushAsync(cancellationToken);

        private async ValueTask<bool> IsStoredAsync(GuestOffset at, long length, CancellationToken cancellationToken)
        {
            for (var end = at + length; at < end;)
            {
                var extent = await content.MapAsync(at, end - at, MapDetail.StorageHoles, cancellationToken).ConfigureAwait(false);
                if (!extent.ReadsZero && extent.Depth == 0)
                {
                    return true;
                }

                at = extent.End;
            }

            return false;
        }
    }

    private sealed class ToCompressedNode(BlockNode node, long unit) : ToNode(node, unit)
    {
        public override bool WritesWholeUnits => true;

        public override ValueTask WriteAsync(GuestOffset at, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken) =>
            Node.WriteCompressedAsync(at, bytes, cancellationToken);
    }
}
