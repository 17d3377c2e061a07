using System.Text;
using Platter.Host.Native;

namespace Platter.Cli;

/// <summary>The process: finds out under which name it was started and runs the command line.</summary>
internal static class Program
{
    private static async Task<int> Main(string[] args)
    {
        ProcessSignals.SurviveFileSizeLimit();

        // Not Console.Out: its locks, encodings and flushes cost a millisecond of start-up and much more in a long listing.
        var encoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
        var output = new StreamWriter(StandardStreams.OpenOutput(), encoding, bufferSize: 4096, leaveOpen: true);
        var error = new StreamWriter(StandardStreams.OpenError(), encoding, bufferSize: 256, leaveOpen: true);
        // Warnings of several workers and the answer to a signal may come at once.
        using var session = new Session(InvokedAs(), output, TextWriter.Synchronized(error), !Console.IsOutputRedirected, Environment.GetEnvironmentVariable);
        return await CommandLine.RunAsync(args, session).ConfigureAwait(false);
    }

    private static string InvokedAs()
    {
        // The launcher script knows; a native binary sees it itself; under the JIT only the kernel still has the word that was typed.
        var name = Environment.GetEnvironmentVariable("PLATTER_INVOKED_AS");
        if (string.IsNullOrEmpty(name))
        {
            name = Environment.GetCommandLineArgs()[0];
            if (name.EndsWith(".dll", StringComparison.OrdinalIgnoreCase))
            {
                name = TypedName() ?? name;
            }
        }

        name = Path.GetFileName(name);
        name = name.EndsWith(".exe", StringComparison.OrdinalIgnoreCase) ? name[..^4] : name;

        // The assembly's name, and the runtime's, are not the tool's.
        return name is "Platter.Cli" or "Platter.Cli.dll" or "dotnet" or "" ? "platter" : name;
    }

    private static string? TypedName()
    {
        try
        {
            var line = File.ReadAllBytes("/proc/self/cmdline").AsSpan();
            var end = line.IndexOf((byte)0);
            return end < 0 ? null : Encoding.UTF8.GetString(line[..end]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Not Linux: the name is platter, then.
            return null;
        }
    }
}
