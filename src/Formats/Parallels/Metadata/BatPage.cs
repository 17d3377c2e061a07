namespace Platter.Formats.Parallels.Metadata;

/// <summary>A piece of the BAT around an entry that was asked for.</summary>
/// <param name="Slots">Entries; those of the disk may change while somebody writes, each of them at once.</param>
/// <param name="Index">Where the entry is in it.</param>
/// <param name="End">Behind the last slot that is an entry.</param>
internal readonly record struct BatPage(uint[] Slots, int Index, int End);
