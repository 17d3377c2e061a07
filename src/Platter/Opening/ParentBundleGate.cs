using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter;

/// <summary>For info and check: opens the bundle that a linked clone's images are in, by the rules of <see cref="LocalFilesGate"/>, and nothing else that an image names.</summary>
internal sealed class ParentBundleGate : OpenGate
{
    private readonly LocalFilesGate _local = new();
    private readonly ClosedGate _closed = new("only the image itself is opened");

    /// <inheritdoc/>
    public override NodeOptions Resolve(ImageReference reference) => (reference.Kind == ReferenceKind.ParentBundle ? (OpenGate)_local : _closed).Resolve(reference);
}
