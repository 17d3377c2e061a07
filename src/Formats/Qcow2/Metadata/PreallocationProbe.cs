using System.Buffers;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Metadata;

/// <summary>Tells whether clusters of an image may be holes of its file: whether it was made with preallocation=metadata.</summary>
/// <remarks>
/// Nothing in the image says so. The file gives it away: it spends clearly less space than the clusters that have a refcount would need. As with
/// QEMU, "clearly" is a ninth of what it spends, and two clusters at least; so <c>map</c> shows holes where QEMU shows them. The counting stops as
/// soon as the answer is certain, which for a file without holes is before anything was read.
/// </remarks>
internal sealed class PreallocationProbe(Storage storage, TableReader reader, Qcow2Header header, Qcow2Geometry geometry)
{
    private const int Unknown = -1;

    private int _answer = Unknown;

    /// <summary>The answer, if it is known already.</summary>
    public bool? Answer => Volatile.Read(ref _answer) is var answer and not Unknown ? answer != 0 : null;

    /// <summary>Finds the answer. May run twice at once; both find the same.</summary>
    public async ValueTask<bool> FindAsync(CancellationToken cancellationToken)
    {
        bool answer;
        try
        {
            answer = await LooksPreallocatedAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException)
        {
            // Refcounts that cannot be read are the business of check; reading goes on without hints.
            answer = false;
        }

        Volatile.Write(ref _answer, answer ? 1 : 0);
        return answer;
    }

    private async ValueTask<bool> LooksPreallocatedAsync(CancellationToken cancellationToken)
    {
        if (storage.AllocatedSize is not { } allocatedBytes)
        {
            return false;
        }

        var spent = allocatedBytes >> geometry.ClusterBits;
        var threshold = Math.Max(spent + (spent / 9), spent + 2);
        var clusters = Sizes.DivideRoundingUp(storage.Length, geometry.ClusterSize);
        var used = 0L;
        var entries = Math.Min(header.RefcountTableBytes / RefcountTableEntry.Size, Sizes.DivideRoundingUp(clusters, 1L << geometry.RefcountBlockEntryBits));
        var block = ArrayPool<byte>.Shared.Rent(geometry.ClusterSize);
        var window = new TableWindow(reader, new((long)header.RefcountTableOffset), "refcount table", 64 * 1024);
        try
        {
            for (long index = 0; index < entries; index++)
            {
                var left = clusters - (index << geometry.RefcountBlockEntryBits);
                if (used >= threshold || used + left < threshold)
                {
                    break;
                }

                var entry = new RefcountTableEntry(System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(
                    (await window.GetAsync(index * RefcountTableEntry.Size, RefcountTableEntry.Size, cancellationToken).ConfigureAwait(false)).Span));
                if (entry.IsAbsent)
                {
                    continue;
                }

                if ((entry.RawOffset & (ulong)geometry.ClusterMask) != 0)
                {
                    return false;
                }

                await reader.ReadAsync(entry.Offset, block.AsMemory(0, geometry.ClusterSize), "refcount block", index, cancellationToken).ConfigureAwait(false);
                used += RefcountBlock.CountUsed(
                    block.AsSpan(0, geometry.ClusterSize), (int)Math.Min(left, 1L << geometry.RefcountBlockEntryBits), geometry.RefcountOrder);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(block);
        }

        return used >= threshold;
    }
}
