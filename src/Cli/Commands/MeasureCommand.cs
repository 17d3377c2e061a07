using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Cli.Commands;

/// <summary><c>measure</c>: how large a new image would be.</summary>
internal sealed class MeasureCommand : Command
{
    private static readonly Option s_targetFormat = new('O', "target-format", "FMT", "The new image's format; raw by default.");
    private static readonly Option s_options = new('o', "options", "KEY=VALUE,...", "Options the new image would be made with, such as cluster_size=2M.");
    private static readonly Option s_size = new('\0', "size", "SIZE", "Measure an empty disk of this size instead of an image.");

    public override string Name => "measure";

    public override string Summary => "Tell how large a file would become that holds a disk's data in a given format.";

    public override string Operands => "[--size=SIZE | IMAGE]";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_targetFormat, s_options, s_size, CommonOptions.Format, CommonOptions.Snapshot, CommonOptions.Output,
        CommonOptions.ImageOpts, CommonOptions.ForceShare, CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk,
        CommonOptions.Untrusted,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var json = WantsJson(arguments);
        var size = arguments.Get(s_size) is { } text ? WholeSectors(SizeText.Parse(text, "image size")) : (long?)null;
        if (arguments.Operands.Count > 1)
        {
            throw new UsageException("At most one filename argument is allowed.", pointToHelp: true);
        }

        var name = arguments.Operands.Count == 1 ? arguments.Operands[0] : null;
        if (size is not null && (name is not null || arguments.Has(CommonOptions.Snapshot) || arguments.Has(CommonOptions.ImageOpts)
            || arguments.Has(CommonOptions.Format)))
        {
            throw new UsageException(
                name is not null ? "--size N cannot be used together with a filename."
                : "--image-opts, -f, and -l can only be used with a filename argument.");
        }

        if (size is null && name is null)
        {
            throw new UsageException("Either --size N or one filename must be specified.");
        }

        var formatName = arguments.Get(s_targetFormat) ?? "raw";
        if (!KnownFormats.Registry.Knows(formatName))
        {
            throw new UsageException($"Unknown file format '{SafeText.Clean(formatName, 64)}'");
        }

        if (KnownFormats.Registry.FindBundle(formatName) is not null)
        {
            throw new UsageException($"Format driver '{formatName}' does not support size measurement");
        }

        var format = KnownFormats.Registry.Get(formatName);
        var create = CreateOptions.Parse(arguments.GetAll(s_options));
        if (size is { } bytes)
        {
            Write(session.Out, json, await format.MeasureAsync(null, bytes, create).ConfigureAwait(false));
            return 0;
        }

        var stop = session.WatchInterrupts();
        var disk = await ImageArguments.From(arguments, session).OpenAsync(name!, null, stop).ConfigureAwait(false);
        await using var closing = disk.ConfigureAwait(false);
        Write(session.Out, json, await format.MeasureAsync(disk.Node, disk.Size, create, stop).ConfigureAwait(false));
        return 0;
    }

    // Virtual disks are whole sectors; the one size that cannot be rounded up is larger than any file.
    private static long WholeSectors(long bytes) => Sizes.TryAlignUp(bytes, Sizes.SectorBytes, out var aligned) ? aligned : bytes;

    private static void Write(TextWriter writer, bool asJson, MeasureResult result)
    {
        if (!asJson)
        {
            writer.Write($"required size: {result.Required}\nfully allocated size: {result.FullyAllocated}\n");
            writer.Write(result.Bitmaps is { } bytes ? $"bitmaps size: {bytes}\n" : string.Empty);
            return;
        }

        var json = new JsonOutput(writer);
        json.BeginObject();
        if (result.Bitmaps is { } bitmaps)
        {
            json.Member("bitmaps", bitmaps);
        }

        json.Member("required", result.Required);
        json.Member("fully-allocated", result.FullyAllocated);
        json.EndObject();
        json.Finish();
    }
}
