using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter;

/// <summary>The default gate: references to local files by relative, <c>../</c> or absolute name, and <c>json:</c> and NBD names that come
/// down to a local file or an NBD export. Anything else is refused by name.</summary>
public sealed class LocalFilesGate : OpenGate
{
    private static readonly HashSet<string> s_allowedDrivers = ["file", "host_device", "nbd", "qcow2", "raw", "parallels", "parallels-bundle"];

    /// <inheritdoc/>
    public override NodeOptions Resolve(ImageReference reference)
    {
        var name = reference.Name;
        if (name.Length == 0)
        {
            throw Refuse(reference, "the name is empty");
        }

        if (name.Contains('\0', StringComparison.Ordinal))
        {
            throw Refuse(reference, "the name holds a NUL character");
        }

        if (name.StartsWith("json:", StringComparison.Ordinal) || DiskName.IsNbdUri(name) || name.StartsWith("nbd:", StringComparison.Ordinal))
        {
            return Judge(reference, ParseOrRefuse(reference));
        }

        if (name.StartsWith("file:", StringComparison.Ordinal))
        {
            name = name["file:".Length..];
        }
        else if (DiskName.ProtocolOf(name) is { } protocol)
        {
            throw Refuse(reference, $"protocol '{SafeText.Clean(protocol, 64)}' is not allowed");
        }

        return NodeOptions.ForFile(Locate(reference, name));
    }

    private static NodeOptions ParseOrRefuse(ImageReference reference)
    {
        try
        {
            return DiskName.Parse(reference.Name);
        }
        catch (BlockException e)
        {
            throw Refuse(reference, e.Message);
        }
    }

    // Every driver named anywhere in the options must be one that opens local files or NBD exports.
    private static NodeOptions Judge(ImageReference reference, NodeOptions options)
    {
        foreach (var key in options.Keys)
        {
            if ((key == "driver" || key.EndsWith(".driver", StringComparison.Ordinal)) && options[key] is { } driver && !s_allowedDrivers.Contains(driver))
            {
                throw Refuse(reference, $"driver '{SafeText.Clean(driver, 64)}' is not allowed");
            }
        }

        foreach (var key in options.Keys.ToArray())
        {
            if ((key == "filename" || key.EndsWith(".filename", StringComparison.Ordinal)) && options[key] is { } path)
            {
                if (DiskName.ProtocolOf(path) is { } protocol)
                {
                    throw Refuse(reference, $"protocol '{SafeText.Clean(protocol, 64)}' is not allowed");
                }

                options[key] = Locate(reference, path);
            }
        }

        return options;
    }

    private static string Locate(ImageReference reference, string path)
    {
        if (Path.IsPathRooted(path))
        {
            return path;
        }

        if (reference.BaseDirectory is not { } directory)
        {
            throw Refuse(reference, "the name is relative and the image has no directory");
        }

        var beside = Path.Combine(directory, path);

        // QEMU looks for data files in the working directory instead of the image's own.
        return reference.Kind == ReferenceKind.DataFile && !File.Exists(beside) && File.Exists(path) ? path : beside;
    }

    private static BlockException Refuse(ImageReference reference, string why) => new(
        BlockErrorKind.NotAllowed,
        $"{reference.Referrer}: {reference.Role} '{SafeText.Clean(reference.Name, 256)}' is not opened: {why}");
}
