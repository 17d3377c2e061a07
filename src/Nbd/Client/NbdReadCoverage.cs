namespace Platter.Nbd.Client;

/// <summary>Which bytes of a read a server has already sent, so that none is sent twice, outside, or not at all.</summary>
/// <remarks>Offsets count from the start of the request, in bytes.</remarks>
internal sealed class NbdReadCoverage
{
    /// <summary>Gaps that a server may leave open at one time. Servers send in order or nearly so; without a limit, a reply of many
    /// single bytes would cost us memory and time.</summary>
    public const int MaxRuns = 1024;

    private readonly List<(int Start, int End)> _runs = [];

    /// <summary>Notes a chunk.</summary>
    /// <returns>What is wrong with it, or null.</returns>
    public string? Add(int start, int end)
    {
        // The usual case: the next chunk in order.
        if (_runs.Count > 0 && _runs[^1].End == start)
        {
            _runs[^1] = (_runs[^1].Start, end);
            return null;
        }

        var next = _runs.FindIndex(run => run.End > start);
        if (next < 0)
        {
            next = _runs.Count;
        }
        else if (_runs[next].Start < end)
        {
            return "overlaps an earlier chunk";
        }

        var joinsPrevious = next > 0 && _runs[next - 1].End == start;
        var joinsNext = next < _runs.Count && _runs[next].Start == end;
        if (joinsPrevious && joinsNext)
        {
            _runs[next - 1] = (_runs[next - 1].Start, _runs[next].End);
            _runs.RemoveAt(next);
        }
        else if (joinsPrevious)
        {
            _runs[next - 1] = (_runs[next - 1].Start, end);
        }
        else if (joinsNext)
        {
            _runs[next] = (start, _runs[next].End);
        }
        else if (_runs.Count == MaxRuns)
        {
            return $"leaves more than {MaxRuns} gaps";
        }
        else
        {
            _runs.Insert(next, (start, end));
        }

        return null;
    }

    /// <summary>Whether all of a request of this length was sent.</summary>
    public bool Covers(int length) => _runs is [(0, var end)] && end == length;
}
