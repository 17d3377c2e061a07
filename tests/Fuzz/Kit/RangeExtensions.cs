using Platter.Core.Bitmaps;

namespace Platter.Tests.Fuzz;

internal static class RangeExtensions
{
    /// <summary>The position after the last dirty byte.</summary>
    public static long End(this DirtyRange range) => range.Offset.Value + range.Length;
}
