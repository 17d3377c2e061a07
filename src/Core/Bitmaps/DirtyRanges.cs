using System.Runtime.CompilerServices;
using Platter.Core.Units;

namespace Platter.Core.Bitmaps;

/// <summary>Lists of dirty ranges.</summary>
public static class DirtyRanges
{
    /// <summary>What is dirty in one list or the other: in order, neighbours merged.</summary>
    /// <param name="left">In order.</param>
    /// <param name="right">In order.</param>
    /// <param name="cancellationToken">Stops between ranges.</param>
    public static async IAsyncEnumerable<DirtyRange> UnionAsync(
        IAsyncEnumerable<DirtyRange> left, IEnumerable<DirtyRange> right, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        using var others = right.GetEnumerator();
        var hasOther = others.MoveNext();
        DirtyRange? open = null;
        await foreach (var range in left.WithCancellation(cancellationToken).ConfigureAwait(false))
        {
            while (hasOther && others.Current.Offset <= range.Offset)
            {
                if (Join(ref open, others.Current) is { } done)
                {
                    yield return done;
                }

                hasOther = others.MoveNext();
            }

            if (Join(ref open, range) is { } finished)
            {
                yield return finished;
            }
        }

        for (; hasOther; hasOther = others.MoveNext())
        {
            if (Join(ref open, others.Current) is { } done)
            {
                yield return done;
            }
        }

        if (open is { } last)
        {
            yield return last;
        }
    }

    // Adds a range to the one that is still growing, or ends that and begins anew.
    private static DirtyRange? Join(ref DirtyRange? open, DirtyRange next)
    {
        if (open is { } current && next.Offset <= current.Offset + current.Length)
        {
            var end = Math.Max(current.Offset.Value + current.Length, next.Offset.Value + next.Length);
            open = current with { Length = end - current.Offset.Value };
            return null;
        }

        var done = open;
        open = next;
        return done;
    }
}
