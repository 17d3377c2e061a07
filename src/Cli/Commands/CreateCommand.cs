using System.Text;
using Platter.Cli.Options;
using Platter.Core.Images;

namespace Platter.Cli.Commands;

/// <summary><c>create</c>: a new, empty image.</summary>
internal sealed class CreateCommand : Command
{
    private static readonly Option s_format = new('f', "format", "FMT", "The new image's format: qcow2, parallels, parallels-bundle, or raw, which is the default.");
    private static readonly Option s_options = new(
        'o', "options", "KEY=VALUE,...", "Options of the new image, such as cluster_size=2M. '-o help' lists them.");

    private static readonly Option s_backing = new(
        'b', "backing", "FILE", "What the image does not hold yet is read from FILE, as seen from the image's directory.");

    private static readonly Option s_backingFormat = new('F', "backing-format", "FMT", "FILE's format. Has to be given with -b.");
    private static readonly Option s_unchecked = new('u', "backing-unsafe", null, "Record FILE without looking whether it is there.");

    public override string Name => "create";

    public override string Summary => "Make a new, empty image. Without SIZE it is as large as its backing file.";

    public override string Operands => "IMAGE [SIZE]";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_format, s_options, s_backing, s_backingFormat, s_unchecked, CommonOptions.Quiet, CommonOptions.Object,
        CommonOptions.PasswordFile,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var format = arguments.Get(s_format) ?? "raw";
        var options = CreateOptions.Parse(arguments.GetAll(s_options));
        if (CreateOptions.AsksForHelp(options))
        {
            CreateOptions.WriteHelp(session.Out, format, withFile: arguments.Operands.Count > 0);
            return 0;
        }

        if (arguments.Operands.Count == 0)
        {
            throw new UsageException("Expecting image file name", pointToHelp: true);
        }

        if (arguments.Operands.Count > 2)
        {
            throw new UsageException($"Unexpected argument: {arguments.Operands[2]}", pointToHelp: true);
        }

        var size = arguments.Operands.Count == 2 ? SizeText.Parse(arguments.Operands[1], "image size") : (long?)null;
        if (arguments.Get(s_backing) is { } backing)
        {
            options["backing_file"] = backing;
        }

        if (arguments.Get(s_backingFormat) is { } backingFormat)
        {
            options["backing_fmt"] = backingFormat;
        }

        var stop = session.WatchInterrupts();
        var named = new NamedCreateOptions(format, options)
        {
            Secrets = ObjectSecrets.Parse(arguments.GetAll(CommonOptions.Object)),
            Password = ImageArguments.PasswordOf(arguments, session),
            BackingUnchecked = arguments.Has(s_unchecked),
        };
        var creation = await DiskCreation.PrepareAsync(arguments.Operands[0], size, named, stop).ConfigureAwait(false);
        if (!arguments.Has(CommonOptions.Quiet))
        {
            session.Out.Write(Describe(arguments.Operands[0], creation));
            session.Out.Flush();
        }

        await creation.RunAsync(stop).ConfigureAwait(false);
        return 0;
    }

    /// <summary>The line that scripts know from the peers: what was given and the defaults worth telling, in the format's own order.</summary>
    public static string Describe(string name, DiskCreation creation)
    {
        var text = new StringBuilder($"Formatting '{name}', fmt={creation.Format}");
        foreach (var option in creation.KnownOptions)
        {
            var value = creation.NamedOptions.Has(option.Name) ? creation.NamedOptions[option.Name] : option.Default;
            if (value is not null)
            {
                text.Append(' ').Append(option.Name).Append('=');
                text.Append(option.Kind == CreateOptionKind.Text ? value.Replace(",", ",,", StringComparison.Ordinal) : value);
            }
        }

        return text.Append('\n').ToString();
    }
}
