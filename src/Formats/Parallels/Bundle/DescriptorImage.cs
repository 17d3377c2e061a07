namespace Platter.Formats.Parallels.Bundle;

/// <summary>How an image of a bundle stores its bytes.</summary>
internal enum DescriptorImageType
{
    /// <summary>"Plain": a raw file; for roots only, and it may be shorter than its storage.</summary>
    Plain,

    /// <summary>"Compressed": an expandable Parallels image. Nothing in it is compressed.</summary>
    Compressed,
}

/// <summary>One <c>Image</c> element: the file that holds what one snapshot changed in one storage.</summary>
/// <param name="Id">GUID by which <c>Shot</c> elements mean it.</param>
/// <param name="Type">Kind of file.</param>
/// <param name="File">The name as stored: relative, absolute, stale, back-slashed.</param>
/// <param name="Path">Path of the element, for messages.</param>
/// <param name="Line">Its line, for messages.</param>
internal sealed record DescriptorImage(Guid Id, DescriptorImageType Type, string File, string Path, int Line);
