using Xunit;

namespace Platter.TestKit;

/// <summary>Runs the platter program that was built beside the tests, or the one that <c>PLATTER_CLI</c> names.</summary>
public static class PlatterCli
{
    /// <summary>Path of the program, or null when it has not been built.</summary>
    /// <remarks>The variable <c>PLATTER_CLI</c> comes first, so that the same tests can run against a native build.</remarks>
    public static string? Path
    {
        get
        {
            if (Environment.GetEnvironmentVariable("PLATTER_CLI") is { Length: > 0 } named)
            {
                return named;
            }

            // Tests run in artifacts/FRAMEWORK/bin/PROJECT/CONFIGURATION; the program lies beside them in its own PROJECT folder.
            var here = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(System.IO.Path.DirectorySeparatorChar));
            var bin = here.Parent?.Parent?.FullName;
            if (bin is null)
            {
                return null;
            }

            string[] configurations = [here.Name, "release", "debug"];
            return configurations
                .SelectMany(c => new[] { "platter", "platter.exe", "Platter.Cli", "Platter.Cli.exe", "Platter.Cli.dll" }.Select(f => System.IO.Path.Combine(bin, "Platter.Cli", c, f)))
                .FirstOrDefault(File.Exists);
        }
    }

    /// <summary>Skips the running test, visibly, if the program has not been built.</summary>
    public static string RequireOrSkip()
    {
        var path = Path;
        Assert.SkipWhen(path is null, "platter is not built (dotnet build src/Cli -c Release)");
        return path!;
    }

    /// <summary>The command line of platter with these arguments, to add input, a directory or variables to.</summary>
    public static ToolCommand Command(params string[] arguments)
    {
        var path = RequireOrSkip();
        return path.EndsWith(".dll", StringComparison.Ordinal) ? new ToolCommand("dotnet", [path, .. arguments]) : new ToolCommand(path, arguments);
    }

    /// <summary>Runs platter to its end, whatever it returns.</summary>
    public static ToolResult Run(params string[] arguments) => ToolRunner.Run(Command(arguments));

    /// <summary>Runs platter and fails the test unless it exits with 0.</summary>
    public static ToolResult RunChecked(params string[] arguments) => Run(arguments).Expect();

    /// <summary>Makes a symbolic link to the program under another name, such as "qemu-img".</summary>
    /// <returns>Path of the link.</returns>
    public static string LinkAs(TempFolder folder, string name)
    {
        var link = folder[name];
        File.CreateSymbolicLink(link, RequireOrSkip());
        return link;
    }
}
