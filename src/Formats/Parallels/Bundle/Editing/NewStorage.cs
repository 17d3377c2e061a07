namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>A part that a split disk gets when it grows.</summary>
/// <param name="StartSector">First sector of the disk in it.</param>
/// <param name="EndSector">The sector after its last.</param>
/// <param name="Images">Of every state: name of the file in the bundle, and kind.</param>
internal sealed record NewStorage(long StartSector, long EndSector, IReadOnlyDictionary<Guid, (string File, DescriptorImageType Type)> Images);
