using Platter.Core.Units;

namespace Platter.Core.Bitmaps;

/// <summary>A persistent dirty bitmap as an image stores it.</summary>
/// <param name="Name">Its name; a format without names uses its identifier.</param>
/// <param name="Granularity">Guest bytes that one bit stands for.</param>
/// <param name="InUse">It was not stored when the image was last closed: its contents are inconsistent.</param>
/// <param name="Enabled">Writes are tracked into it (the <c>auto</c> flag).</param>
public sealed record BitmapInfo(string Name, long Granularity, bool InUse, bool Enabled);

/// <summary>A run of dirty bytes.</summary>
/// <param name="Offset">Where it starts.</param>
/// <param name="Length">Guest bytes; cut at the end of the disk.</param>
public readonly record struct DirtyRange(GuestOffset Offset, long Length);
