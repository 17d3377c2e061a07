namespace Platter.TestKit;

/// <summary>A folder of its own for one test, under the system's temporary path, deleted with everything in it on dispose.</summary>
public sealed class TempFolder : IDisposable
{
    /// <summary>Makes the folder.</summary>
    public TempFolder(string? hint = null) => Path = Directory.CreateTempSubdirectory($"platter-{hint ?? "test"}-").FullName;

    /// <summary>Its absolute path.</summary>
    public string Path { get; }

    /// <summary>The absolute path of a name inside.</summary>
    public string this[string name] => System.IO.Path.Combine(Path, name);

    /// <summary>Makes a folder inside.</summary>
    public string CreateFolder(string name) => Directory.CreateDirectory(this[name]).FullName;

    /// <summary>Writes a file inside.</summary>
    public string Write(string name, ReadOnlySpan<byte> bytes)
    {
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(this[name])!);
        File.WriteAllBytes(this[name], bytes);
        return this[name];
    }

    /// <summary>Writes a text file inside.</summary>
    public string Write(string name, string text)
    {
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(this[name])!);
        File.WriteAllText(this[name], text);
        return this[name];
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        try
        {
            Directory.Delete(Path, recursive: true);
        }
        catch (IOException)
        {
            // A process that a failing test left behind may still hold a file; the folder is temporary anyway.
        }
        catch (UnauthorizedAccessException)
        {
        }
    }
}
