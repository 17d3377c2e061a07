using Platter.Cli.Commands;
using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Host.Native;

namespace Platter.Cli;

/// <summary>Finds the command, runs it, and turns whatever happens into one line of text and an exit code.</summary>
internal static class CommandLine
{
    private static readonly Option[] s_standardOptions =
    [
        CommonOptions.Help,
        new('V', "version", null, "Print the version."),
        new('T', "trace", "PATTERN", string.Empty),
    ];

    /// <summary>Runs one command line.</summary>
    /// <returns>The exit code of the process.</returns>
    public static async Task<int> RunAsync(string[] args, Session session)
    {
        try
        {
            var code = await DispatchAsync(args, session).ConfigureAwait(false);
            session.Out.Flush();
            return code;
        }
        catch (Exception e)
        {
            return Report(e, session);
        }
    }

    private static async ValueTask<int> DispatchAsync(string[] args, Session session)
    {
        var persona = Persona.For(session.ProgramName);
        if (persona.SingleCommand is { } create)
        {
            return await RunCommandAsync(create(), args, session, persona).ConfigureAwait(false);
        }

        var standard = OptionParser.Parse(s_standardOptions, args, stopAtOperand: true);
        if (standard.Has(s_standardOptions[1]))
        {
            session.Out.Write(persona.VersionText);
            return 0;
        }

        if (standard.Has(s_standardOptions[2]))
        {
            throw new UsageException("tracing is not supported");
        }

        var words = standard.Operands;
        if (standard.Has(CommonOptions.Help))
        {
            HelpText.WriteOverview(session.Out, session.ProgramName);
            return 0;
        }

        if (words.Count == 0)
        {
            throw new UsageException("Not enough arguments", pointToHelp: true);
        }

        if (words[0] == "help")
        {
            if (words.Count == 1)
            {
                HelpText.WriteOverview(session.Out, session.ProgramName);
            }
            else
            {
                HelpText.WriteCommand(session.Out, session.ProgramName, CommandTable.Get(Without(words, 1), out _));
            }

            return 0;
        }

        var command = CommandTable.Get(words, out var used);
        if (session.ProgramName != "qemu-img")
        {
            session.HelpSubject = $"{session.ProgramName} {command.Name}";
        }

        return await RunCommandAsync(command, Without(words, used), session, persona).ConfigureAwait(false);
    }

    private static string[] Without(IReadOnlyList<string> words, int first)
    {
        var rest = new string[words.Count - first];
        for (var i = 0; i < rest.Length; i++)
        {
            rest[i] = words[i + first];
        }

        return rest;
    }

    private static ValueTask<int> RunCommandAsync(Command command, string[] words, Session session, Persona persona)
    {
        var arguments = OptionParser.Parse(command.Options, words);
        if (arguments.Has(CommonOptions.Help))
        {
            HelpText.WriteCommand(session.Out, session.ProgramName, command);
            return new(0);
        }

        if (arguments.Has(CommonOptions.Version))
        {
            session.Out.Write(persona.VersionText);
            return new(0);
        }

        return command.RunAsync(session, arguments);
    }

    // The one place where an error becomes text and an exit code. Nobody ever sees a stack trace without asking for it.
    private static int Report(Exception e, Session session)
    {
        try
        {
            session.Out.Flush();
        }
        catch (IOException)
        {
            // The output itself is what failed; the message below says so.
        }

        if (session.Variable("PLATTER_DEBUG") == "1")
        {
            session.Error.Write($"{e}\n");
        }

        switch (e)
        {
            case OperationCanceledException when session.InterruptedWith is { } code:
                session.Complain("interrupted");
                return code;
            case UsageException usage:
                session.Complain(usage.Message);
                if (usage.PointToHelp)
                {
                    session.Error.Write($"Try '{session.HelpSubject} --help' for more information\n");
                    session.Error.Flush();
                }

                return 1;
            case CommandException failure:
                session.Complain(failure.Message);
                return failure.ExitCode;
            case ReaderGoneException:
                // As a program that SIGPIPE ends.
                return 141;
            case BlockException:
                session.Complain(e.Message);
                return 1;
            case IOException:
                session.Complain("standard output cannot be written");
                return 1;
            case OutOfMemoryException:
                session.Complain("not enough memory");
                return 1;
            default:
                session.Complain($"internal error: {e.GetType().Name}: {FirstLine(e.Message)}, please report");
                return 1;
        }
    }

    private static string FirstLine(string text) => text.AsSpan().IndexOfAny('\r', '\n') is var end and >= 0 ? text[..end] : text;
}
