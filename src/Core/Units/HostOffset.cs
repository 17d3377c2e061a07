namespace Platter.Core.Units;

/// <summary>A byte position in a storage (a file, a device, an export).</summary>
/// <param name="Value">Bytes from the start of the storage; never negative in a valid request.</param>
public readonly record struct HostOffset(long Value) : IComparable<HostOffset>
{
    /// <summary>The start of the storage.</summary>
    public static HostOffset Zero => default;

    /// <summary>The position <paramref name="bytes"/> further on.</summary>
    public static HostOffset operator +(HostOffset offset, long bytes) => new(offset.Value + bytes);

    /// <summary>The distance between two positions, in bytes.</summary>
    public static long operator -(HostOffset left, HostOffset right) => left.Value - right.Value;

    /// <summary>Orders positions.</summary>
    public static bool operator <(HostOffset left, HostOffset right) => left.Value < right.Value;

    /// <summary>Orders positions.</summary>
    public static bool operator >(HostOffset left, HostOffset right) => left.Value > right.Value;

    /// <summary>Orders positions.</summary>
    public static bool operator <=(HostOffset left, HostOffset right) => left.Value <= right.Value;

    /// <summary>Orders positions.</summary>
    public static bool operator >=(HostOffset left, HostOffset right) => left.Value >= right.Value;

    /// <inheritdoc/>
    public int CompareTo(HostOffset other) => Value.CompareTo(other.Value);

    /// <summary>Hexadecimal, as messages print it.</summary>
    public override string ToString() => $"0x{Value:x}";
}
