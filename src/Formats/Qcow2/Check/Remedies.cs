using Platter.Formats.Findings;

namespace Platter.Formats.Qcow2.Check;

/// <summary>What the findings of this format's check mean, and what a repair does about them.</summary>
internal static class Remedies
{
    public static readonly Remedy RefcountTooLow = new(
        "The space counts as free, or as used by fewer than use it: a later write could put something else there.",
        "the refcount is raised to the number of references");

    public static readonly Remedy Leak = new("Space that nothing refers to counts as used. No data are affected.", "the refcount is lowered, and the space can be used again")
    {
        IsForLeaks = true,
    };

    public static readonly Remedy RefcountTooHigh = new(
        "The space counts as used by more than use it, so that it will never become free, and a write may copy it needlessly. No data are affected.",
        "the refcount is lowered to the number of references")
    {
        IsForLeaks = true,
    };

    public static readonly Remedy Copied = new(
        "COPIED says that a cluster has no other user. Where it is set wrongly, a write changes what somebody else sees; where it is missing, writes only cost more.",
        "the table is written anew with the right flag; what the guest sees stays");

    public static readonly Remedy ReservedBits = new(
        "Bits that must be 0 are set. They change nothing today; another program may refuse the image.", "the table is written anew without them; what the guest sees stays");

    public static readonly Remedy StrayFlags = new(
        "An entry without a table has bits set, as if the header were its table.", "the entry is cleared; what the guest sees stays");

    public static readonly Remedy UnalignedZeroes = new(
        "The cluster reads as zeros; the space set aside for it is where no cluster can be.", "the space is given up; the cluster goes on reading as zeros");

    public static readonly Remedy Unaligned = new("The entry points to where no cluster can begin, so that it is damaged. Reading it is an error.", null);

    public static readonly Remedy BeyondTheEnd = new(
        "The file has been cut off, or the entry is damaged. What the file does not have reads as zeros.", null);

    public static readonly Remedy TooManyReferences = new("A write by one of the users changes what the others see, or gives up their space.", null);

    public static readonly Remedy Undecodable = new("The two halves of the entry contradict each other. Reading it is an error.", null);

    public static readonly Remedy NoPlaceForCompressed = new("Compressed data cannot be where the entry says. Reading it is an error.", null);

    public static readonly Remedy RefcountStructure = new(
        "A part of the refcounts is not where it should be: what is free and what is used is not known from them.",
        "the references are counted, and refcounts are written anew");

    public static readonly Remedy SnapshotIncomplete = new(
        "The snapshot does not say how large the disk was.", "the entry is completed: the snapshot's disk has the size that the disk has now");

    public static readonly Remedy SnapshotTooLong = new(
        "Programs refuse an image with so much extra data in a snapshot's entry.", "what nobody knows is cut off after 1024 bytes");

    public static readonly Remedy SnapshotUnusable = new("The snapshot cannot be read or applied.", null);

    public static readonly Remedy Bitmap = new("A part of the bitmap cannot be found: a backup that relies on it must be a full one.", null);
}
