namespace Platter.Formats.Parallels.Bundle;

/// <summary>Finds the file that a <c>File</c> element means. Pure but for asking the directory which names exist.</summary>
/// <remarks>
/// Names are relative to the descriptor, with <c>../</c> (ploop goes up and comes back), absolute, absolute on a machine the bundle no
/// longer is on, or any of these with back-slashes. Whatever the text says, the file must lie in the bundle's own directory. What leads
/// elsewhere is either a moved bundle (the name is looked up inside) or a linked clone's parent, which the caller opens through the gate.
/// </remarks>
internal static class ImageFileName
{
    /// <summary>Where a name leads.</summary>
    /// <param name="Inside">Name inside the bundle's directory, or null.</param>
    /// <param name="ParentBundle">Directory of another bundle as the name spells it, or null; <paramref name="ParentFile"/> is a file in it.</param>
    /// <param name="ParentFile">Name inside the other bundle.</param>
    /// <param name="LeadsOutside">A relative name that leaves the directory.</param>
    public readonly record struct Place(string? Inside, string? ParentBundle, string? ParentFile, bool LeadsOutside);

    /// <summary>Finds the place.</summary>
    /// <param name="directory">The bundle.</param>
    /// <param name="text">The name as stored, not empty.</param>
    public static Place Find(BundleNames directory, string text)
    {
        // A back-slash is a letter on Unix; it counts as one only if such a file exists.
        if (text.Contains('\\', StringComparison.Ordinal) && !directory.Exists(text))
        {
            text = text.Replace('\\', '/');
        }

        var absolute = text[0] == '/' || (text.Length > 2 && char.IsAsciiLetter(text[0]) && text[1] == ':' && text[2] == '/');
        var parts = text.Split('/', StringSplitOptions.RemoveEmptyEntries);
        return absolute ? FindAbsolute(directory, text, parts) : FindRelative(directory, parts);
    }

    private static Place FindRelative(BundleNames directory, string[] parts)
    {
        // Follows the name from the bundle's directory; "above" counts how far outside it is, of which only one step back in is known.
        var own = directory.OwnName;
        List<string> inside = [];
        List<string> outside = [];
        var above = 0;
        foreach (var part in parts)
        {
            if (part == ".")
            {
                continue;
            }

            if (part == "..")
            {
                if (outside.Count > 0)
                {
                    outside.RemoveAt(outside.Count - 1);
                }
                else if (inside.Count > 0)
                {
                    inside.RemoveAt(inside.Count - 1);
                }
                else
                {
                    above++;
                }
            }
            else if (above == 1 && outside.Count == 0 && part == own)
            {
                above = 0;
            }
            else if (above > 0)
            {
                outside.Add(part);
            }
            else
            {
                inside.Add(part);
            }
        }

        if (above == 0)
        {
            return inside.Count == 0 ? default : new(directory.Find(string.Join('/', inside)), null, null, LeadsOutside: false);
        }

        if (outside.Count > 1 && IsBundleName(outside[^2]))
        {
            var parent = string.Concat(Enumerable.Repeat("../", above)) + string.Join('/', outside.SkipLast(1));
            return new(null, parent, outside[^1], LeadsOutside: true);
        }

        return new(null, null, null, LeadsOutside: true);
    }

    private static Place FindAbsolute(BundleNames directory, string text, string[] parts)
    {
        if (parts.Length == 0 || parts.Contains(".."))
        {
            return new(null, null, null, LeadsOutside: true);
        }

        // The part behind our own directory's name, if the bundle was only moved; else just the last part, if it was renamed as well.
        var own = Array.LastIndexOf(parts, directory.OwnName);
        if (own >= 0 && own < parts.Length - 1 && directory.Find(string.Join('/', parts[(own + 1)..])) is { } same)
        {
            return new(same, null, null, LeadsOutside: false);
        }

        if (directory.Find(parts[^1]) is { } last)
        {
            return new(last, null, null, LeadsOutside: false);
        }

        return own < 0 && parts.Length > 1 && IsBundleName(parts[^2])
            ? new(null, text[..text.TrimEnd('/').LastIndexOf('/')], parts[^1], LeadsOutside: true)
            : default;
    }

    private static bool IsBundleName(string part) => part.EndsWith(".hdd", StringComparison.OrdinalIgnoreCase);
}
