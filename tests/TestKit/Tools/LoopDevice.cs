using Xunit;

namespace Platter.TestKit;

/// <summary>A block device over a file of a test's folder; released when disposed.</summary>
public sealed class LoopDevice : IDisposable
{
    private LoopDevice(string path) => Path = path;

    /// <summary>Its path.</summary>
    public string Path { get; }

    /// <summary>Makes one with old bytes everywhere, or skips the test where that is not allowed.</summary>
    /// <param name="folder">Where the file goes.</param>
    /// <param name="size">Bytes.</param>
    public static LoopDevice RequireOrSkip(TempFolder folder, int size)
    {
        ToolRunner.RequireOrSkip("losetup");
        var file = folder.Write("device.bin", TestContent.Make(99, 0, size));
        var result = ToolRunner.Run("losetup", "-f", "--show", file);
        Assert.SkipWhen(result.ExitCode != 0, $"no loop device can be had here: {result.Error.Trim()}");
        return new(result.Text.Trim());
    }

    /// <inheritdoc/>
    public void Dispose() => _ = ToolRunner.Run("losetup", "-d", Path);
}
