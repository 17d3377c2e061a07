using Platter.Core.Errors;

namespace Platter.Host.Files;

/// <summary>Where a name really leads.</summary>
internal static class RealPath
{
    /// <summary>Resolves every link on the way, one part at a time; what does not exist stays as it is and fails when it is opened.</summary>
    /// <param name="path">Absolute.</param>
    /// <param name="shown">For messages.</param>
    /// <exception cref="BlockException">Links that lead round in circles.</exception>
    public static string Of(string path, string shown)
    {
        var links = 0;
        var parts = new Stack<string>(Enumerable.Reverse(path.Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries)));
        var real = Path.GetPathRoot(path) ?? "/";
        while (parts.TryPop(out var part))
        {
            if (part is ".")
            {
                continue;
            }

            if (part is "..")
            {
                real = Path.GetDirectoryName(real) ?? real;
                continue;
            }

            var next = Path.Combine(real, part);
            if (new FileInfo(next).LinkTarget is not { } target)
            {
                real = next;
                continue;
            }

            if (++links > 40)
            {
                throw new BlockException(BlockErrorKind.NotFound, $"{shown}: Could not open: Too many levels of symbolic links");
            }

            if (Path.IsPathRooted(target))
            {
                real = Path.GetPathRoot(target) ?? "/";
            }

            foreach (var piece in Enumerable.Reverse(target.Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries)))
            {
                parts.Push(piece);
            }
        }

        return real;
    }
}
