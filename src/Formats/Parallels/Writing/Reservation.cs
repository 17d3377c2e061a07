namespace Platter.Formats.Parallels.Writing;

/// <summary>A plan that gives guest clusters a place.</summary>
/// <param name="FirstCluster">Index of the first guest cluster.</param>
/// <param name="Host">Index of the first host cluster; the others follow it.</param>
/// <param name="Count">How many.</param>
internal sealed record Reservation(long FirstCluster, long Host, int Count);
