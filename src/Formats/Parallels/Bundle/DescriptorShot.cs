namespace Platter.Formats.Parallels.Bundle;

/// <summary>One <c>Shot</c> element: a snapshot, or the current state.</summary>
/// <param name="Id">GUID of its images.</param>
/// <param name="ParentId">GUID of what it was made on; all zeros for the root.</param>
/// <param name="Path">Path of the element, for messages.</param>
/// <param name="Line">Its line, for messages.</param>
/// <param name="IsMerging">It has been deleted, and its images are on their way into those around it (a mark of ours): no snapshot any more, only a layer.</param>
internal sealed record DescriptorShot(Guid Id, Guid ParentId, string Path, int Line, bool IsMerging = false);
