using System.Diagnostics;

namespace Platter.Cli.Serving;

/// <summary>Serving in the background (<c>--fork</c>): a second process serves, the first one leaves when clients can connect.</summary>
/// <remarks>.NET cannot fork, so the program starts itself again with the same arguments and a variable that says so. The child answers with one
/// line on its standard output; what it complains of before that is passed on. It keeps none of the caller's streams open.</remarks>
internal static class BackgroundServer
{
    private const string Marker = "PLATTER_SERVE_CHILD";
    private const string Ready = "ready";

    /// <summary>Whether this process is the one that serves.</summary>
    public static bool IsChild(Session session) => session.Variable(Marker) is not null;

    /// <summary>In the child: clients can connect now.</summary>
    public static void TellReady(Session session)
    {
        session.Out.Write($"{Ready}\n");
        session.Out.Flush();
    }

    /// <summary>Starts the child and waits until it serves or has given up.</summary>
    /// <returns>The exit code.</returns>
    public static async ValueTask<int> StartAsync(Session session)
    {
        using var child = Process.Start(Describe(session)) ?? throw new CommandException(1, "the background process could not be started");
        child.StandardInput.Close();
        var complaints = PassOnAsync(child.StandardError, session);
        var answer = await child.StandardOutput.ReadLineAsync().ConfigureAwait(false);
        if (answer == Ready)
        {
            return 0;
        }

        await child.WaitForExitAsync().ConfigureAwait(false);
        await complaints.ConfigureAwait(false);
        return child.ExitCode == 0 ? 1 : child.ExitCode;
    }

    private static ProcessStartInfo Describe(Session session)
    {
        var program = Environment.ProcessPath ?? throw new CommandException(1, "the program's own path is not known: cannot go to the background");
        var words = Environment.GetCommandLineArgs();
        var info = new ProcessStartInfo
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };

        // A session of its own keeps the terminal's Ctrl-C and hang-up away from the server.
        const string SetSid = "/usr/bin/setsid";
        if (File.Exists(SetSid))
        {
            info.FileName = SetSid;
            info.ArgumentList.Add(program);
        }
        else
        {
            info.FileName = program;
        }

        if (Path.GetFileNameWithoutExtension(program) == "dotnet")
        {
            info.ArgumentList.Add(words[0]);
        }

        for (var i = 1; i < words.Length; i++)
        {
            info.ArgumentList.Add(words[i]);
        }

        info.Environment[Marker] = "1";
        info.Environment["PLATTER_INVOKED_AS"] = session.ProgramName;
        return info;
    }

    private static async Task PassOnAsync(StreamReader from, Session session)
    {
        while (await from.ReadLineAsync().ConfigureAwait(false) is { } line)
        {
            session.Error.Write($"{line}\n");
            session.Error.Flush();
        }
    }
}
