using Platter.Cli;

namespace Platter.Tests.Unit.Cli;

/// <summary>One command line run inside the test, and what it printed.</summary>
internal sealed record CliRun(int ExitCode, string Output, string Error)
{
    public static Task<CliRun> PlatterAsync(params string[] args) => AsAsync("platter", args);

    public static async Task<CliRun> AsAsync(string programName, string[] args, IReadOnlyDictionary<string, string>? variables = null)
    {
        var output = new StringWriter();
        var error = new StringWriter();
        using var session = new Session(programName, output, error, outputIsTerminal: false, name => variables?.GetValueOrDefault(name));
        var code = await CommandLine.RunAsync(args, session);
        return new CliRun(code, output.ToString(), error.ToString());
    }
}
