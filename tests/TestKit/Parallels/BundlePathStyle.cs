namespace Platter.TestKit;

/// <summary>How a descriptor names its images.</summary>
public enum BundlePathStyle
{
    /// <summary>The bare file name.</summary>
    Relative,

    /// <summary>A file name behind "./".</summary>
    DotRelative,

    /// <summary>The true absolute path; needs the bundle to be built for a place.</summary>
    Absolute,

    /// <summary>An absolute path on another machine, from before the bundle was moved.</summary>
    AbsoluteMoved,

    /// <summary>The absolute path of before with back-slashes and a drive letter.</summary>
    BackslashedMoved,

    /// <summary>".\" and the file name.</summary>
    Backslashed,
}
