namespace Platter.Formats.Findings;

/// <summary>What a kind of finding means, and what a repair does about it.</summary>
/// <param name="Explanation">For people who do not know the format.</param>
/// <param name="Repair">What <c>-r all</c> does, or null: nothing that would not be a guess.</param>
internal sealed record Remedy(string Explanation, string? Repair)
{
    /// <summary>Whether <c>-r leaks</c> repairs it too.</summary>
    public bool IsForLeaks { get; init; }
}
