namespace Platter.Formats.Parallels.Bundle;

/// <summary>The <c>Volume</c> element of a linked clone: another bundle, a snapshot of which lies under the root of this one.</summary>
/// <param name="Parent">The other bundle's directory or descriptor, as stored.</param>
/// <param name="SnapshotId">Its snapshot.</param>
/// <param name="Path">Path of the element, for messages.</param>
/// <param name="Line">Its line, for messages.</param>
internal sealed record DescriptorVolume(string Parent, Guid SnapshotId, string Path, int Line);
