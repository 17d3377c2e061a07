namespace Platter.Nbd.Protocol;

/// <summary>Status of a descriptor in the context <c>base:allocation</c>.</summary>
[Flags]
internal enum NbdBlockState : uint
{
    Data = 0,
    Hole = 1,
    Zero = 2,
}
