using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Passes findings on and counts them; in a repair, those that it mends by themselves.</summary>
/// <param name="report">Receives them.</param>
/// <param name="repair">What is being repaired; null for a check.</param>
internal sealed class CheckTally(Action<CheckFinding> report, RepairMode? repair = null)
{
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
        string message, Remedy remedy, HostOffset? at = null, GuestOffset? guest = null, long guestLength = 0, bool? isFixed = null)
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

        report(new(CheckSeverity.Corruption, message)
        {
            HostOffset = at, GuestOffset = guest, GuestLength = guestLength, Explanation = remedy.Explanation, Repair = remedy.Repair, IsRepaired = mends,
        });
    }

    public void Note(string message, GuestOffset guest, long guestLength) =>
        report(new(CheckSeverity.Note, message) { GuestOffset = guest, GuestLength = guestLength });

    public void Leak(string message, HostOffset at)
    {
        var mends = Mends(Remedy.Leak);
        if (mends)
        {
            LeaksFixed++;
        }
        else
        {
            Leaks++;
        }

        report(new(CheckSeverity.Leak, message)
        {
            HostOffset = at, Explanation = Remedy.Leak.Explanation, Repair = Remedy.Leak.Repair, IsRepaired = mends,
        });
    }

    public void Error(string message, HostOffset? at = null)
    {
        Errors++;
        report(new(CheckSeverity.Error, message) { HostOffset = at });
    }

    private bool Mends(Remedy remedy) => remedy.Repair is not null && repair switch
    {
        RepairMode.All => true,
        RepairMode.Leaks => remedy.IsForLeaks,
        _ => false,
    };
}
