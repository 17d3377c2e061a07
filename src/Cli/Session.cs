using Platter.Core.Errors;

namespace Platter.Cli;

/// <summary>What one run of the program has to do with the outside: its name, its output, its environment, the signal to stop.</summary>
internal sealed class Session : IDisposable
{
    private readonly Func<string, string?> _variables;
    private readonly Lock _complaining = new();
    private Interrupts? _interrupts;

    /// <summary>A session over any writers, for tests and for <see cref="Program"/>.</summary>
    /// <param name="programName">How the program was started.</param>
    /// <param name="output">Standard output; flushed when the session ends.</param>
    /// <param name="error">Standard error; flushed after each message.</param>
    /// <param name="outputIsTerminal">Whether a person looks at the output as it appears.</param>
    /// <param name="variables">Environment variables.</param>
    public Session(string programName, TextWriter output, TextWriter error, bool outputIsTerminal, Func<string, string?> variables)
    {
        ProgramName = programName;
        HelpSubject = programName;
        Out = output;
        Error = error;
        OutputIsTerminal = outputIsTerminal;
        _variables = variables;
    }

    /// <summary>What messages start with: platter, qemu-img, qemu-io or qemu-nbd.</summary>
    public string ProgramName { get; }

    /// <summary>What to type for help on what is being run: the program's name, with the command's once that is known.</summary>
    public string HelpSubject { get; set; }

    /// <summary>Standard output.</summary>
    public TextWriter Out { get; }

    /// <summary>Standard error.</summary>
    public TextWriter Error { get; }

    /// <summary>Standard input, opened when it is first asked for.</summary>
    public TextReader In
    {
        get => field ??= new StreamReader(Console.OpenStandardInput(), new System.Text.UTF8Encoding(encoderShouldEmitUTF8Identifier: false));
        init;
    }

    /// <summary>Whether standard output is a terminal.</summary>
    public bool OutputIsTerminal { get; }

    /// <summary>The exit code that a signal asked for, or null when none came.</summary>
    public int? InterruptedWith => _interrupts?.ExitCode;

    /// <summary>An environment variable, or null when it is not set or empty.</summary>
    public string? Variable(string name) => _variables(name) is { Length: > 0 } value ? value : null;

    /// <summary>From now on SIGINT and SIGTERM cancel this token instead of ending the process at once; a second one still ends it.</summary>
    /// <remarks>Only long commands ask for it: a command that ends in milliseconds is better without the thread that waits for signals.</remarks>
    public CancellationToken WatchInterrupts() => (_interrupts ??= new Interrupts()).Token;

    /// <summary>One line on standard error, behind the program's name, without control characters. From any thread: lines do not run into each other.</summary>
    public void Complain(string message)
    {
        lock (_complaining)
        {
            Error.Write($"{ProgramName}: {SafeText.Clean(message)}\n");
            Error.Flush();
        }
    }

    /// <summary>A warning on standard error.</summary>
    public void Warn(string message) => Complain($"warning: {message}");

    /// <inheritdoc/>
    public void Dispose() => _interrupts?.Dispose();
}
