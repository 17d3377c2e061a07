using Platter.Core.Images;

namespace Platter;

/// <summary>Creation options by name, as <c>-o</c> gives them.</summary>
/// <param name="FormatName">The format.</param>
/// <param name="Options">Its options: <c>cluster_size=2M</c>, …</param>
public sealed record NamedCreateOptions(string FormatName, NodeOptions Options) : DiskCreateOptions
{
    /// <inheritdoc/>
    public override string Format => FormatName;

    internal override NodeOptions ToNamed() => Options;
}
