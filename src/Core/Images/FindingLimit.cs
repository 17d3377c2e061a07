namespace Platter.Core.Images;

/// <summary>Passes findings of a check on, up to a limit; what comes after is counted and told in one last line.</summary>
/// <remarks>A damaged image has a finding for every cluster, and a hostile one has millions that cost it nothing. Used by one check on one thread.</remarks>
/// <param name="report">Receives them.</param>
public sealed class FindingLimit(Action<CheckFinding> report)
{
    /// <summary>Findings of one image that are passed on; more than anybody reads.</summary>
    public const int Max = 10_000;

    private long _count;

    /// <summary>Whether nothing is passed on any more, so that no text need be made.</summary>
    public bool IsReached => _count >= Max;

    /// <summary>Passes a finding on, or counts it.</summary>
    public void Report(CheckFinding finding)
    {
        if (_count++ < Max)
        {
            report(finding);
        }
    }

    /// <summary>Counts a finding that nobody made a text for.</summary>
    public void Skip() => _count++;

    /// <summary>Says how many were only counted, if any. Called once, at the end.</summary>
    public void Finish()
    {
        if (_count > Max)
        {
            report(new CheckFinding(CheckSeverity.Note, FormattableString.Invariant($"... and {_count - Max} more findings")));
        }
    }
}
