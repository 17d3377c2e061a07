namespace Platter.TestKit;

/// <summary>The two kinds of Parallels expandable images.</summary>
public enum ParallelsMagic
{
    /// <summary>"WithoutFreeSpace" (v1): BAT entries count sectors.</summary>
    WithoutFreeSpace,

    /// <summary>"WithouFreSpacExt" (v2): BAT entries count clusters.</summary>
    WithouFreSpacExt,
}
