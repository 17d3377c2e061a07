namespace Platter.Bench.Rows;

/// <summary>What a ratio (ours / the peer's) is to reach.</summary>
internal readonly record struct Target(double Value, bool AtLeast)
{
    public static Target AtMost(double value) => new(value, false);

    public static Target NoLessThan(double value) => new(value, true);

    public bool IsMet(double ratio) => AtLeast ? ratio >= Value : ratio <= Value;

    public override string ToString() => $"{(AtLeast ? "≥" : "≤")} {Value:0.0#}";
}
