using System.Runtime.CompilerServices;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Passes findings on and counts them.</summary>
internal sealed class CheckTally(Action<CheckFinding> report)
{
    private readonly FindingLimit _findings = new(report);

    /// <summary>Whether findings are still passed on, so that their texts are worth making.</summary>
    public bool WantsTexts => !_findings.IsReached;

    public long Corruptions { get; private set; }

    public long Leaks { get; private set; }

    public long Errors { get; private set; }

    /// <summary>Guest clusters with data.</summary>
    public long AllocatedClusters { get; set; }

    /// <summary>Allocated clusters that do not follow their predecessor.</summary>
    public long FragmentedClusters { get; set; }

    /// <summary>Compressed clusters.</summary>
    public long CompressedClusters { get; set; }

    public void Corruption(
        [InterpolatedStringHandlerArgument("")] ref FindingText message, HostOffset? at = null, GuestOffset? guest = null, long guestLength = 0)
    {
        Corruptions++;
        Report(CheckSeverity.Corruption, message.Take(), at, guest, guestLength);
    }

    public void Note([InterpolatedStringHandlerArgument("")] ref FindingText message, GuestOffset guest, long guestLength) =>
        Report(CheckSeverity.Note, message.Take(), null, guest, guestLength);

    public void Leak([InterpolatedStringHandlerArgument("")] ref FindingText message, HostOffset at)
    {
        Leaks++;
        Report(CheckSeverity.Leak, message.Take(), at, null, 0);
    }

    public void Error([InterpolatedStringHandlerArgument("")] ref FindingText message, HostOffset? at = null)
    {
        Errors++;
        Report(CheckSeverity.Error, message.Take(), at, null, 0);
    }

    /// <summary>After the last finding.</summary>
    public void Finish() => _findings.Finish();

    private void Report(CheckSeverity severity, string? message, HostOffset? at, GuestOffset? guest, long guestLength)
    {
        if (message is null)
        {
            _findings.Skip();
        }
        else
        {
            _findings.Report(new(severity, message) { HostOffset = at, GuestOffset = guest, GuestLength = guestLength });
        }
    }
}
