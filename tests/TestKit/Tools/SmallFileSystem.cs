using Xunit;

namespace Platter.TestKit;

/// <summary>A file system in memory of a given size, below a test's folder; unmounted when disposed.</summary>
public sealed class SmallFileSystem : IDisposable
{
    private SmallFileSystem(string path) => Path = path;

    /// <summary>Where it is mounted.</summary>
    public string Path { get; }

    /// <summary>A name in it.</summary>
    public string this[string name] => System.IO.Path.Combine(Path, name);

    /// <summary>Mounts one, or skips the test where that is not allowed.</summary>
    /// <param name="folder">Where the mount point goes.</param>
    /// <param name="megabytes">Its size.</param>
    public static SmallFileSystem RequireOrSkip(TempFolder folder, int megabytes)
    {
        ToolRunner.RequireOrSkip("mount", "umount");
        var path = folder.CreateFolder("small");
        var result = ToolRunner.Run("mount", "-t", "tmpfs", "-o", $"size={megabytes}m", "none", path);
        Assert.SkipWhen(result.ExitCode != 0, $"no file system can be mounted here: {result.Error.Trim()}");
        return new(path);
    }

    /// <summary>Gives it another size.</summary>
    public void Resize(int megabytes) => ToolRunner.RunChecked("mount", "-o", $"remount,size={megabytes}m", Path);

    /// <summary>Takes all the room that is left.</summary>
    public void Fill()
    {
        using var file = File.Create(this["filler"], 1);
        var page = new byte[4096];
        try
        {
            while (true)
            {
                file.Write(page);
            }
        }
        catch (IOException)
        {
            // That was all.
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _ = ToolRunner.Run("umount", Path);
}
