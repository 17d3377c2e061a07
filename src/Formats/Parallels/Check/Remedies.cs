using Platter.Formats.Findings;

namespace Platter.Formats.Parallels.Check;

/// <summary>What the findings of this format's check mean, and what a repair does about them.</summary>
internal static class Remedies
{
    public static readonly Remedy NotClosed = new(
        "A program had the image open for writing and did not close it. What it wrote last may not be in the table yet.", "when everything else is in order, the mark is taken away");

    public static readonly Remedy DataOffset = new(
        "The header does not say rightly where the data begin: another program may refuse the image, or put data where the table is.",
        "the lowest value that fits the table and all clusters in use is written");

    public static readonly Remedy DataOffsetUnknown = new(
        "The header does not say rightly where the data begin, and the clusters in use do not tell either: they do not lie on one grid.", null);

    public static readonly Remedy ShortTable = new("The disk is larger than its table. What lies behind the table's end cannot be stored.", null);

    public static readonly Remedy Outside = new(
        "The entry points behind the end of the file, which has been cut off, or the entry is damaged. The bytes are not there; reading them is an error.",
        "the entry is cleared: the range reads as zeros, or as the parent image");

    public static readonly Remedy CutOff = new("The file ends inside the cluster. What is missing reads as zeros.", "the file is made longer, with zeros, up to the end of the cluster");

    public static readonly Remedy BeforeData = new(
        "The entry points into the header or the table, so that it is damaged. Reading it is an error.", "the entry is cleared: the range reads as zeros, or as the parent image");

    public static readonly Remedy OffGrid = new(
        "No cluster can begin where the entry points. Some programs read the bytes there, others fail.", "the bytes there are copied to a cluster of their own");

    public static readonly Remedy Duplicate = new(
        "Two parts of the disk are stored in one cluster: a write to one changes the other.", "the bytes are copied to a cluster of their own; what the guest sees stays");

    public static readonly Remedy Extension = new(
        "A part of the Format Extension, which has the dirty bitmaps, is damaged: a backup that relies on a bitmap must be a full one.",
        "the header stops referring to the extension; all its bitmaps are gone");

    public static readonly Remedy StaleExtension = new(
        "The bitmaps are older than the last change of the image and must not be used. Some programs refuse the image because of them.", "the header stops referring to the extension")
    {
        // Its clusters count as leaked: a header that still refers to them when they are gone is worse.
        IsForLeaks = true,
    };

    public static readonly Remedy TailOfExtension = new(
        "Nothing else refers to the end of the file, but what is damaged may: its bitmaps may be restored from there. It is kept as long as the header refers to the extension.", null);

    public static readonly Remedy Hole = new("Space inside the file that nothing refers to. No data are affected, and the next writes take it.", null);

    public static readonly Remedy TailOfShortTable = new(
        "Nothing refers to the end of the file, as far as the table goes; but that is shorter than the disk needs, and what it lacks may have referred to it.", null);

    public static readonly Remedy Tail = new("Nothing refers to the end of the file. No data are affected.", "the file is cut behind the last cluster in use") { IsForLeaks = true };
}
