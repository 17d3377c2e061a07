using System.Runtime.CompilerServices;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Formats.Findings;

/// <summary>Passes findings on and counts them; in a repair, those that it mends by themselves.</summary>
/// <param name="report">Receives them.</param>
/// <param name="repair">What is being repaired; null for a check.</param>
internal sealed class CheckTally(Action<CheckFinding> report, RepairMode? repair = null)
{
    private readonly FindingLimit _findings = new(report);

    /// <summary>Whether findings are still passed on, so that their texts are worth making.</summary>
    public bool WantsTexts => !_findings.IsReached;

    /// <summary>Corruptions that stay.</summary>
    public long Corruptions { get; private set; }

    /// <summary>Leaks that stay.</summary>
    public long Leaks { get; private set; }

    public long Errors { get; private set; }

    public long CorruptionsFixed { get; private set; }

    public long LeaksFixed { get; private set; }

    /// <summary>Guest clusters with data.</summary>
    public long AllocatedClusters { get; set; }

    /// <summary>Allocated clusters that do not follow their predecessor.</summary>
    public long FragmentedClusters { get; set; }

    /// <summary>Compressed clusters.</summary>
    public long CompressedClusters { get; set; }

    /// <summary>Reports a corruption.</summary>
    /// <param name="message">One line.</param>
    /// <param name="remedy">What it means.</param>
    /// <param name="at">Where in the file, if somewhere.</param>
    /// <param name="guest">The guest range, if one is affected.</param>
    /// <param name="guestLength">Its bytes.</param>
    /// <param name="isFixed">Whether this repair mends it; null when that follows from the remedy.</param>
    public void Corruption(
        [InterpolatedStringHandlerArgument("")] ref FindingText message, Remedy remedy, HostOffset? at = null, GuestOffset? guest = null, long guestLength = 0,
        bool? isFixed = null)
    {
        var mends = isFixed ?? Mends(remedy);
        if (mends)
        {
            CorruptionsFixed++;
        }
        else
        {
            Corruptions++;
        }

        Report(CheckSeverity.Corruption, message.Take(), remedy, at, guest, guestLength, mends);
    }

    public void Note([InterpolatedStringHandlerArgument("")] ref FindingText message, GuestOffset guest, long guestLength) =>
        Report(CheckSeverity.Note, message.Take(), null, null, guest, guestLength);

    /// <summary>Reports something that is not counted.</summary>
    /// <param name="message">One line.</param>
    /// <param name="remedy">What it means; null when the message says it all.</param>
    /// <param name="isFixed">Whether this repair changes it.</param>
    public void Note([InterpolatedStringHandlerArgument("")] ref FindingText message, Remedy? remedy = null, bool isFixed = false) =>
        Report(CheckSeverity.Note, message.Take(), remedy, null, null, 0, isFixed);

    /// <summary>Reports leaked clusters.</summary>
    /// <param name="message">One line.</param>
    /// <param name="remedy">What it means.</param>
    /// <param name="at">Where in the file.</param>
    /// <param name="count">How many.</param>
    public void Leak([InterpolatedStringHandlerArgument("")] ref FindingText message, Remedy remedy, HostOffset at, long count = 1)
    {
        var mends = Mends(remedy);
        if (mends)
        {
            LeaksFixed += count;
        }
        else
        {
            Leaks += count;
        }

        Report(CheckSeverity.Leak, message.Take(), remedy, at, null, 0, mends);
    }

    public void Error([InterpolatedStringHandlerArgument("")] ref FindingText message, HostOffset? at = null)
    {
        Errors++;
        Report(CheckSeverity.Error, message.Take(), null, at, null, 0);
    }

    /// <summary>After the last finding.</summary>
    public void Finish() => _findings.Finish();

    private void Report(
        CheckSeverity severity, string? message, Remedy? remedy, HostOffset? at, GuestOffset? guest, long guestLength, bool isRepaired = false)
    {
        if (message is null)
        {
            _findings.Skip();
        }
        else
        {
            _findings.Report(new(severity, message)
            {
                HostOffset = at, GuestOffset = guest, GuestLength = guestLength, Explanation = remedy?.Explanation, Repair = remedy?.Repair, IsRepaired = isRepaired,
            });
        }
    }

    /// <summary>Whether this repair does what the remedy says.</summary>
    public bool Mends(Remedy remedy) => remedy.Repair is not null && repair switch
    {
        RepairMode.All => true,
        RepairMode.Leaks => remedy.IsForLeaks,
        _ => false,
    };
}
