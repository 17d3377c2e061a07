using Platter.Cli.Options;
using Platter.Core.Errors;

namespace Platter.Cli.Commands;

/// <summary>What the commands that write need to know about their one target format.</summary>
internal static class RawTarget
{
    // Formats that other tools write: named here to be refused in the right words.
    private static readonly string[] s_otherFormats =
    [
        "qcow2", "parallels", "parallels-bundle", "qcow", "qed", "vdi", "vmdk", "vpc", "vhdx", "luks", "nbd",
    ];

    /// <summary>Refuses a target format that is not raw.</summary>
    /// <param name="format">As given with <c>-O</c>, or null.</param>
    /// <exception cref="UsageException">It is another one.</exception>
    public static void Require(string? format)
    {
        if (format is null or "raw")
        {
            return;
        }

        throw new UsageException(Array.IndexOf(s_otherFormats, format) >= 0
            ? $"writing {format} is not in this version yet: the target can only be raw (-O raw)"
            : $"Unknown file format '{SafeText.Clean(format, 64)}'");
    }

    /// <summary>The local path of a target, or the words why it cannot be one.</summary>
    /// <exception cref="UsageException">It is a URI or another protocol.</exception>
    public static string PathOf(string name) => DiskName.Parse(name) switch
    {
        { Driver: "file" } file => file["filename"]!,
        _ => throw new UsageException($"{name}: the target must be a local file or device"),
    };
}
