using Platter.Core.Images;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>One open image of a bundle.</summary>
/// <param name="Shot">The snapshot it belongs to.</param>
/// <param name="Image">Its element.</param>
/// <param name="Driver">Its file, open.</param>
internal sealed record BundleLayer(DescriptorShot Shot, DescriptorImage Image, ImageDriver Driver);
