using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>What tests of offline changes need: images written by the peer, and the peer's judgement afterwards.</summary>
internal static class OfflineInterop
{
    public static void Create(string image, string options, string size, string? backing = null, string backingFormat = "qcow2")
    {
        string[] below = backing is null ? [] : ["-b", backing, "-F", backingFormat];
        ToolRunner.RunChecked("qemu-img", ["create", "-q", "-f", "qcow2", "-o", options, .. below, image, size]);
    }

    /// <summary>A raw file, full of a pattern.</summary>
    public static void CreateRaw(string file, string size, int pattern)
    {
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "raw", file, size);
        ToolRunner.RunChecked("qemu-io", "-f", "raw", "-c", $"write -P {pattern} 0 {size}", file);
    }

    public static void Write(string image, params string[] commands) =>
        ToolRunner.RunChecked("qemu-io", [.. commands.SelectMany(c => new[] { "-c", c }), image]);

    public static void Reads(string image, params string[] commands)
    {
        var result = ToolRunner.RunChecked("qemu-io", ["-r", .. commands.SelectMany(c => new[] { "-c", c }), image]);
        Assert.DoesNotContain("failed", result.Text + result.Error, StringComparison.Ordinal);
    }

    /// <summary>The peer finds nothing wrong with the image, not even a leak.</summary>
    public static void Check(string image)
    {
        var result = ToolRunner.Run("qemu-img", "check", image);
        Assert.True(result.ExitCode == 0, $"{result}");
    }

    /// <summary>What a guest reads, or read at a snapshot, as a raw file.</summary>
    public static void Keep(string image, string raw, string? snapshot = null) =>
        ToolRunner.RunChecked("qemu-img", ["convert", .. snapshot is null ? Array.Empty<string>() : ["-l", snapshot], "-O", "raw", image, raw]);

    /// <summary>An image still reads as a raw file that was kept of it.</summary>
    public static void ReadsAs(string image, string raw, string format = "qcow2") =>
        ToolRunner.RunChecked("qemu-img", "compare", "-q", "-f", format, "-F", "raw", image, raw);

    /// <summary>One line of the peer's <c>info</c>, or null.</summary>
    public static string? Info(string image, string key) =>
        ToolRunner.RunChecked("qemu-img", "info", "-U", image).Lines.FirstOrDefault(line => line.StartsWith($"{key}: ", StringComparison.Ordinal))?[(key.Length + 2)..];
}
