using Platter.Core.Storages;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>The extents of the last few block status replies, so that a walk over a disk asks once for many of them.</summary>
/// <remarks>Thread-safe. Bounded: <see cref="MaxReplies"/> replies of at most <see cref="NbdConnection.MaxExtentsKept"/> extents.</remarks>
internal sealed class NbdExtentCache
{
    /// <summary>Replies kept; several so that a few walks at different places do not push each other out.</summary>
    public const int MaxReplies = 4;

    private readonly Lock _gate = new();
    private readonly Reply?[] _replies = new Reply?[MaxReplies];
    private int _next;
    private long _generation;

    /// <summary>Grows whenever something is forgotten: what was asked before must not be kept any more.</summary>
    public long Generation => Interlocked.Read(ref _generation);

    /// <summary>Forgets everything, after a write: a range that is said to read as zeros is not read.</summary>
    public void Forget()
    {
        lock (_gate)
        {
            _generation++;
            Array.Clear(_replies);
        }
    }

    /// <summary>Keeps a reply.</summary>
    /// <param name="generation">The <see cref="Generation"/> from before it was asked for.</param>
    /// <param name="offset">Where its first extent starts, in bytes.</param>
    /// <param name="extents">The extents, one after the other.</param>
    /// <param name="end">Size of the export: extents may run past it and are cut.</param>
    public void Add(long generation, long offset, IReadOnlyList<NbdStatusDescriptor> extents, long end)
    {
        var ends = new List<long>();
        var states = new List<NbdBlockState>();
        var at = offset;
        foreach (var extent in extents)
        {
            // Other bits have no meaning yet and must not keep equal neighbours apart.
            var state = (NbdBlockState)extent.Status & (NbdBlockState.Hole | NbdBlockState.Zero);
            at = extent.Length > (ulong)(end - at) ? end : at + (long)extent.Length;
            if (states.Count > 0 && states[^1] == state)
            {
                ends[^1] = at;
            }
            else
            {
                ends.Add(at);
                states.Add(state);
            }
        }

        lock (_gate)
        {
            if (generation != _generation)
            {
                return;
            }

            _replies[_next] = new(offset, [.. ends], [.. states]);
            _next = (_next + 1) % MaxReplies;
        }
    }

    /// <summary>Finds what is known at <paramref name="at"/>.</summary>
    /// <returns>False when nothing is.</returns>
    public bool TryFind(long at, long length, out StorageExtent extent)
    {
        lock (_gate)
        {
            foreach (var reply in _replies)
            {
                if (reply is not null && at >= reply.Start && at < reply.Ends[^1])
                {
                    var found = Array.BinarySearch(reply.Ends, at);

                    // An extent that ends exactly here is not the one; the complement of a miss is the first that ends later.
                    var index = found < 0 ? ~found : found + 1;
                    var state = reply.States[index];
                    extent = new(
                        Math.Min(length, reply.Ends[index] - at),
                        IsAllocated: (state & NbdBlockState.Hole) == 0,
                        ReadsZero: (state & NbdBlockState.Zero) != 0);
                    return true;
                }
            }
        }

        extent = default;
        return false;
    }

    private sealed record Reply(long Start, long[] Ends, NbdBlockState[] States);
}
