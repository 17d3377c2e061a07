using System.Diagnostics;
using Xunit;

namespace Platter.TestKit;

/// <summary>Finds and runs the external tools that tests compare Platter with.</summary>
public static class ToolRunner
{
    /// <summary>How long a tool may take unless told otherwise; then it is killed and the test fails.</summary>
    public static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(120);

    /// <summary>The path of a tool, or null when it is not installed. Looks in PATH and in the sbin directories.</summary>
    public static string? Find(string tool)
    {
        if (tool.Contains('/', StringComparison.Ordinal))
        {
            return File.Exists(tool) ? tool : null;
        }

        var path = (Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(Path.PathSeparator);
        string[] folders = [.. path, "/usr/sbin", "/sbin", "/usr/local/sbin"];
        return folders.Where(f => f.Length > 0).Select(f => Path.Combine(f, tool)).FirstOrDefault(File.Exists);
    }

    /// <summary>Whether a tool is installed.</summary>
    public static bool IsInstalled(string tool) => Find(tool) is not null;

    /// <summary>Skips the running test, visibly, unless all these tools are installed.</summary>
    /// <returns>The path of the first.</returns>
    public static string RequireOrSkip(params string[] tools)
    {
        foreach (var tool in tools)
        {
            if (!IsInstalled(tool))
            {
                Assert.Skip($"{tool} is not installed");
            }
        }

        return Find(tools[0])!;
    }

    /// <summary>Runs a tool to its end and fails the test unless it exits with 0. Skips the test if the tool is missing.</summary>
    public static ToolResult RunChecked(string tool, params string[] arguments) => Run(tool, arguments).Expect();

    /// <summary>Runs a tool to its end, whatever it returns. Skips the test if the tool is missing.</summary>
    public static ToolResult Run(string tool, params string[] arguments) => Run(new ToolCommand(tool, arguments));

    /// <summary>Runs a command to its end, whatever it returns. Skips the test if the tool is missing.</summary>
    public static ToolResult Run(ToolCommand command)
    {
        using var process = Process.Start(command.ToStartInfo())
            ?? throw new InvalidOperationException($"{command.Tool} did not start");

        // Both pipes are drained while the tool runs: a full pipe would stop it for ever.
        var error = process.StandardError.ReadToEndAsync();
        using var collected = new MemoryStream();
        var output = process.StandardOutput.BaseStream.CopyToAsync(collected);
        if (command.Input is not null)
        {
            try
            {
                process.StandardInput.BaseStream.Write(command.Input);
            }
            catch (IOException)
            {
                // The tool ended without reading all of its input; its exit code tells.
            }
        }

        process.StandardInput.Close();
        if (!process.WaitForExit(command.Timeout))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{command}\nwas still running after {command.Timeout.TotalSeconds} s and was killed");
        }

        // A grandchild that keeps the pipes open (a server gone to the background) must not keep the test.
        Task.WaitAll([output, error], TimeSpan.FromSeconds(5));
        return new ToolResult(
            command.ToString(), process.ExitCode, output.IsCompleted ? collected.ToArray() : [], error.IsCompleted ? error.Result : string.Empty);
    }
}
