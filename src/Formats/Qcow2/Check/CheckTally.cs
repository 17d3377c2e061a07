using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Passes findings on and counts them.</summary>
internal sealed class CheckTally(Action<CheckFinding> report)
{
    public long Corruptions { get; private set; }

    public long Leaks { get; private set; }

    public long Errors { get; private set; }

    /// <summary>Guest clusters with data.</summary>
    public long AllocatedClusters { get; set; }

    /// <summary>Allocated clusters that do not follow their predecessor.</summary>
    public long FragmentedClusters { get; set; }

    /// <summary>Compressed clusters.</summary>
    public long CompressedClusters { get; set; }

    public void Corruption(string message, HostOffset? at = null, GuestOffset? guest = null, long guestLength = 0)
    {
        Corruptions++;
        report(new(CheckSeverity.Corruption, message) { HostOffset = at, GuestOffset = guest, GuestLength = guestLength });
    }

    public void Note(string message, GuestOffset guest, long guestLength) =>
        report(new(CheckSeverity.Note, message) { GuestOffset = guest, GuestLength = guestLength });

    public void Leak(string message, HostOffset at)
    {
        Leaks++;
        report(new(CheckSeverity.Leak, message) { HostOffset = at });
    }

    public void Error(string message, HostOffset? at = null)
    {
        Errors++;
        report(new(CheckSeverity.Error, message) { HostOffset = at });
    }
}
