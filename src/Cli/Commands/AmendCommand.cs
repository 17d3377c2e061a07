using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Images;

namespace Platter.Cli.Commands;

/// <summary><c>amend</c>: changes options of an image that is there.</summary>
internal sealed class AmendCommand : Command
{
    private static readonly Option s_options = new('o', "options", "KEY=VALUE,...", "What to change, such as compat=0.10 or refcount_bits=64. '-o help' lists them.");

    private static readonly Option s_force = new(
        '\0', "force", null, "Allow what cannot be undone: overwriting a password of an encrypted image, or removing the last one.");

    public override string Name => "amend";

    public override string Summary => "Change options of an image: compatibility, refcount width, passwords and others.";

    public override string Operands => "IMAGE";

    public override string Details =>
        "Every option is judged before the first one is changed, and each change happens wholly or, at any error or power cut, not at all: run the same command again to go on.";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_options, s_force, CommonOptions.Format, CommonOptions.ImageOpts, CommonOptions.Cache, CommonOptions.Progress, CommonOptions.Quiet,
        CommonOptions.Object, CommonOptions.PasswordFile,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (!arguments.Has(s_options))
        {
            throw new UsageException("Must specify options (-o)", pointToHelp: true);
        }

        var options = CreateOptions.Parse(arguments.GetAll(s_options));
        if (CreateOptions.AsksForHelp(options))
        {
            CreateOptions.WriteAmendHelp(session.Out, arguments.Get(CommonOptions.Format) ?? "qcow2");
            return 0;
        }

        var name = OneImage(arguments);
        CommonOptions.ThrowIfNoCacheMode(arguments, CommonOptions.Cache);
        var stop = session.WatchInterrupts();
        var images = ImageArguments.From(arguments, session);
        using var progress = ProgressLine.Start(session, arguments.Has(CommonOptions.Progress) && !arguments.Has(CommonOptions.Quiet));
        var how = new AmendContext
        {
            Secrets = ObjectSecrets.Parse(arguments.GetAll(CommonOptions.Object)), Force = arguments.Has(s_force), Progress = progress,
        };
        do
        {
            var disk = await images.OpenAsync(name, given => given with { Writable = true }, stop).ConfigureAwait(false);
            await using var closing = disk.ConfigureAwait(false);
            options = await disk.AmendAsync(options, how, stop).ConfigureAwait(false);
        }
        while (options.Keys.Count > 0);
        progress.Complete();
        return 0;
    }
}
