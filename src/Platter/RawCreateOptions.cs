using Platter.Core.Images;

namespace Platter;

/// <summary>How a raw file is made.</summary>
public sealed record RawCreateOptions : DiskCreateOptions
{
    /// <inheritdoc/>
    public override string Format => "raw";

    /// <summary>Whether the file gets all its space at once. Without effect on a device or a target that is there already.</summary>
    public DiskPreallocation Preallocation { get; init; }

    internal override NodeOptions ToNamed() => new() { ["preallocation"] = NameOf(Preallocation) };

    internal static string NameOf(DiskPreallocation preallocation) => preallocation switch
    {
        DiskPreallocation.Off => "off",
        DiskPreallocation.Metadata => "metadata",
        DiskPreallocation.Falloc => "falloc",
        _ => "full",
    };
}
