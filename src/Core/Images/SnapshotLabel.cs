namespace Platter.Core.Images;

/// <summary>Which snapshot an image of a backing chain is: what an overlay file per snapshot would otherwise say by its name and its time only, and lose when it is copied.</summary>
/// <param name="Name">The snapshot's name, for people; may hold anything, as the image's maker may be a stranger.</param>
/// <param name="Date">When it was taken.</param>
public sealed record SnapshotLabel(string Name, DateTimeOffset Date);
