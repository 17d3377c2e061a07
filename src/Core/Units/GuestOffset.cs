namespace Platter.Core.Units;

/// <summary>A byte position in a virtual disk, as the guest sees it.</summary>
/// <param name="Value">Bytes from the start of the disk; never negative in a valid request.</param>
public readonly record struct GuestOffset(long Value) : IComparable<GuestOffset>
{
    /// <summary>The start of the disk.</summary>
    public static GuestOffset Zero => default;

    /// <summary>The position <paramref name="bytes"/> further on.</summary>
    public static GuestOffset operator +(GuestOffset offset, long bytes) => new(offset.Value + bytes);

    /// <summary>The distance between two positions, in bytes.</summary>
    public static long operator -(GuestOffset left, GuestOffset right) => left.Value - right.Value;

    /// <summary>Orders positions.</summary>
    public static bool operator <(GuestOffset left, GuestOffset right) => left.Value < right.Value;

    /// <summary>Orders positions.</summary>
    public static bool operator >(GuestOffset left, GuestOffset right) => left.Value > right.Value;

    /// <summary>Orders positions.</summary>
    public static bool operator <=(GuestOffset left, GuestOffset right) => left.Value <= right.Value;

    /// <summary>Orders positions.</summary>
    public static bool operator >=(GuestOffset left, GuestOffset right) => left.Value >= right.Value;

    /// <inheritdoc/>
    public int CompareTo(GuestOffset other) => Value.CompareTo(other.Value);

    /// <summary>Hexadecimal, as messages print it.</summary>
    public override string ToString() => $"0x{Value:x}";
}
