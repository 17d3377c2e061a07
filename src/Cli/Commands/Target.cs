using Platter.Cli.Options;
using Platter.Core.Errors;

namespace Platter.Cli.Commands;

/// <summary>What the commands that write need to know about their target.</summary>
internal static class Target
{
    // Formats that other tools write: named here to be refused in the right words.
    private static readonly string[] s_otherFormats = ["qcow", "qed", "vdi", "vmdk", "vpc", "vhdx", "luks", "nbd"];

    /// <summary>Refuses a target format that cannot be made.</summary>
    /// <param name="format">As given with <c>-O</c>, or null.</param>
    /// <returns>The format; raw where none was given.</returns>
    /// <exception cref="UsageException">Nobody knows it, or it can only be read.</exception>
    public static string FormatOf(string? format)
    {
        if (format is null || KnownFormats.Registry.CreateOptionsOf(format).Options.Count > 0)
        {
            return format ?? "raw";
        }

        throw new UsageException(Array.IndexOf(s_otherFormats, format) >= 0 || KnownFormats.Registry.Knows(format)
            ? $"writing {format} is not in this version yet: the target can be raw, qcow2, parallels or parallels-bundle (-O)"
            : $"Unknown file format '{SafeText.Clean(format, 64)}'");
    }

    /// <summary>The local path of a target, or the words why it cannot be one.</summary>
    /// <param name="name">As it was given.</param>
    /// <param name="mayBeExport">An NBD export will do; its name comes back as it is.</param>
    /// <exception cref="UsageException">It is a URI or another protocol.</exception>
    public static string PathOf(string name, bool mayBeExport = false) => DiskName.Parse(name) switch
    {
        { Driver: "file" } file => file["filename"]!,
        { Driver: "nbd" } when mayBeExport => name,
        _ when mayBeExport => throw new UsageException($"{name}: the target must be a local file or device, or an NBD export"),
        _ => throw new UsageException($"{name}: the target must be a local file or device"),
    };
}
