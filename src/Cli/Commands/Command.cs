using Platter.Cli.Options;

namespace Platter.Cli.Commands;

/// <summary>One subcommand: its words for help, its options, its work.</summary>
internal abstract class Command
{
    /// <summary>The word on the command line.</summary>
    public abstract string Name { get; }

    /// <summary>What it does, in one line.</summary>
    public abstract string Summary { get; }

    /// <summary>Its operands as help shows them.</summary>
    public abstract string Operands { get; }

    /// <summary>Its options, in the order of help.</summary>
    public abstract IReadOnlyList<Option> Options { get; }

    /// <summary>More for help: what the output means, exit codes, examples. Empty for none.</summary>
    public virtual string Details => string.Empty;

    /// <summary>Does the work.</summary>
    /// <returns>The exit code.</returns>
    /// <exception cref="UsageException">The command line is wrong.</exception>
    /// <exception cref="Core.Errors.BlockException">An image is; exit code 1.</exception>
    public abstract ValueTask<int> RunAsync(Session session, Arguments arguments);

    /// <summary>The operand of a command that takes one image.</summary>
    protected static string OneImage(Arguments arguments) => arguments.Operands.Count == 1
        ? arguments.Operands[0]
        : throw new UsageException("Expecting one image file name", pointToHelp: true);

    /// <summary>Whether <c>--output</c> asks for JSON.</summary>
    protected static bool WantsJson(Arguments arguments) => arguments.Get(CommonOptions.Output) switch
    {
        null or "human" => false,
        "json" => true,
        _ => throw new UsageException("--output must be used with human or json as argument."),
    };
}
