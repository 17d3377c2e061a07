using Platter.Core.Graph;

namespace Platter.Snapshots;

/// <summary>A state that a disk had when a snapshot was taken, or has now.</summary>
/// <param name="Name">The snapshot's name, for people; never empty.</param>
/// <param name="Date">When it was taken; <see cref="NoDate"/> when nobody knows.</param>
/// <param name="IsCurrent">It is the one the disk has now.</param>
/// <param name="OpenAsync">Opens it for reading; whoever calls owns what comes.</param>
internal sealed record DiskState(string Name, DateTimeOffset Date, bool IsCurrent, Func<CancellationToken, ValueTask<BlockNode>> OpenAsync)
{
    /// <summary>What formats have that must say a date, and none is known.</summary>
    public static readonly DateTimeOffset NoDate = DateTimeOffset.UnixEpoch;

    /// <summary>Index of the state that this one is copied on top of, or -1 for none. Always less than its own.</summary>
    public int Parent { get; init; } = -1;
}
