using Platter.Core.Graph;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>One storage of an open bundle: a part of the disk and the chain of images that holds it.</summary>
/// <param name="Storage">Its element.</param>
/// <param name="Start">First guest byte.</param>
/// <param name="End">Guest byte after the last.</param>
/// <param name="Layers">The opened snapshot's image first, the root last.</param>
/// <param name="Node">The same as a node; its disk may be shorter or longer than the part.</param>
internal sealed record BundleSegment(DescriptorStorage Storage, long Start, long End, IReadOnlyList<BundleLayer> Layers, ImageNode Node);
