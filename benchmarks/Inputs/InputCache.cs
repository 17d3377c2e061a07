using System.Reflection;
using System.Security.Cryptography;
using System.Text;

namespace Platter.Bench.Inputs;

/// <summary>Keeps input images from run to run under <c>artifacts/bench/inputs</c>.</summary>
/// <remarks>
/// The key of an input holds the sources of this folder, the versions of the tools that make images, and the sizes asked for: whatever changes how an
/// input is made gives it another name, and the old one is deleted. An input appears under its name only when it is complete.
/// </remarks>
internal sealed class InputCache
{
    private readonly string _folder;
    private readonly string _key;

    public InputCache(string folder, params string[] circumstances)
    {
        _folder = folder;
        _key = KeyOf(circumstances);
        Directory.CreateDirectory(folder);
    }

    /// <summary>The path of an input, made now if it is not there.</summary>
    /// <param name="name">File name with its extension.</param>
    /// <param name="make">Makes it under the path it is given: a file or a folder.</param>
    public string Get(string name, Action<string> make)
    {
        var path = Path.Combine(_folder, $"{Path.GetFileNameWithoutExtension(name)}-{_key}{Path.GetExtension(name)}");
        if (Path.Exists(path))
        {
            return path;
        }

        Console.Error.WriteLine($"making {name} …");
        foreach (var old in Directory.EnumerateFileSystemEntries(_folder, Path.GetFileNameWithoutExtension(name) + "-????????" + Path.GetExtension(name) + "*"))
        {
            Remove(old);
        }

        var unfinished = path + ".new";
        make(unfinished);
        Directory.Move(unfinished, path); // renames files, too
        return path;
    }

    public static void Remove(string path)
    {
        if (Directory.Exists(path))
        {
            Directory.Delete(path, recursive: true);
        }
        else
        {
            File.Delete(path);
        }
    }

    private static string KeyOf(string[] circumstances)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var assembly = Assembly.GetExecutingAssembly();
        foreach (var recipe in assembly.GetManifestResourceNames().Where(n => n.StartsWith("recipe/", StringComparison.Ordinal)).Order(StringComparer.Ordinal))
        {
            using var text = new StreamReader(assembly.GetManifestResourceStream(recipe)!);
            hash.AppendData(Encoding.UTF8.GetBytes(text.ReadToEnd()));
        }

        foreach (var circumstance in circumstances)
        {
            hash.AppendData(Encoding.UTF8.GetBytes(circumstance + "\n"));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset())[..8];
    }
}
