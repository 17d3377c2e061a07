using Platter.Core.Images;

namespace Platter;

/// <summary>How <see cref="Disk.RepairAsync"/> mends an image.</summary>
/// <param name="Mode">How far it goes.</param>
public sealed record DiskRepairOptions(RepairMode Mode)
{
    /// <summary>Where to put what takes the repair back (<see cref="Disk.UndoRepairAsync"/>): a file that is not there yet. It is on the disk before
    /// the repair counts, and is not made when there is nothing to repair. Null for none.</summary>
    /// <remarks>A bundle has one for each image that is mended: FILE, FILE.2, FILE.3 and so on.</remarks>
    public string? UndoFile { get; init; }

    /// <summary>Told the name of every undo file that was written.</summary>
    public Action<string> OnUndoFile { get; init; } = static _ => { };
}
