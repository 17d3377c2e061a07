using Platter.Core.Errors;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Counts requests of some kinds and lets the N-th fail: it alone, or it and all of those kinds after it.</summary>
/// <param name="kinds">Which requests count: any of w(rite), f(lush), r(ead), l(ength).</param>
/// <param name="kind">The error.</param>
/// <param name="goesOn">All later ones fail too.</param>
internal sealed class FaultCounter(string kinds, BlockErrorKind kind, bool goesOn)
{
    private long _left = long.MaxValue;

    /// <summary>What failed first, or null.</summary>
    public string? Failed { get; private set; }

    /// <summary>The next request but <paramref name="after"/> fails.</summary>
    public void FailAfter(long after) => _left = after;

    /// <summary>No request fails any more.</summary>
    public void Heal() => _left = long.MaxValue;

    /// <summary>A request comes.</summary>
    /// <exception cref="BlockException">It is the one.</exception>
    public void Count(char request, string what)
    {
        if (!kinds.Contains(request, StringComparison.Ordinal) || _left == long.MaxValue)
        {
            return;
        }

        if (_left-- > 0)
        {
            return;
        }

        Failed ??= what;
        _left = goesOn ? 0 : long.MaxValue;
        throw new BlockException(kind, $"injected: {what}");
    }
}
