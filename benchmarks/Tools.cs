using Platter.Bench.Measuring;

namespace Platter.Bench;

/// <summary>The programs we compare with and those that make images.</summary>
internal sealed class Tools(string scratch)
{
    /// <summary>The path of a tool, or null when it is not installed.</summary>
    public static string? Find(string tool) =>
        (Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(Path.PathSeparator).Concat(["/usr/sbin", "/sbin"])
            .Where(f => f.Length > 0).Select(f => Path.Combine(f, tool)).FirstOrDefault(File.Exists);

    /// <summary>The path of a tool.</summary>
    /// <exception cref="BenchException">It is not installed.</exception>
    public string Require(string tool) => Find(tool) ?? throw new BenchException($"{tool} is not installed");

    /// <summary>Runs a tool to its end; for preparations.</summary>
    public void Run(string tool, params string[] arguments) => RunWithInput("/dev/null", tool, arguments);

    /// <summary>Runs a tool that reads a file from standard input.</summary>
    public void RunWithInput(string input, string tool, params string[] arguments)
    {
        string[] command = [Require(tool), .. arguments];
        var errors = Path.Combine(scratch, "errors");
        using var child = ChildProcess.Start(command, error: errors, input: input);
        child.WaitForExit().OrThrow(command, errors);
    }

    /// <summary>Whether a tool ends with 0.</summary>
    public bool Succeeds(string tool, params string[] arguments)
    {
        try
        {
            Run(tool, arguments);
            return true;
        }
        catch (BenchException)
        {
            return false;
        }
    }

    /// <summary>The version a tool tells, such as "qemu-img 7.2.22", or null when it is not installed.</summary>
    public string? Version(string tool, string option = "--version")
    {
        if (Find(tool) is not { } path)
        {
            return null;
        }

        var output = Path.Combine(scratch, "version");
        using (var child = ChildProcess.Start([path, option], output, output + ".err"))
        {
            child.WaitForExit();
        }

        var words = (File.ReadAllText(output) + " " + File.ReadAllText(output + ".err")).Split([' ', '\n', ',', '('], StringSplitOptions.RemoveEmptyEntries);
        var version = words.FirstOrDefault(w => w.Any(char.IsDigit) && w.Contains('.')) ?? words.FirstOrDefault(w => w.Any(char.IsDigit)) ?? "?";
        return $"{tool} {version.Replace(tool + "-", string.Empty, StringComparison.Ordinal)}";
    }
}
