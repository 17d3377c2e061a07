using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Cli.Commands;

/// <summary><c>resize</c>: changes the size of a disk.</summary>
internal sealed class ResizeCommand : Command
{
    private static readonly Option s_shrink = new('\0', "shrink", null, "Allow a smaller size: what lies behind the new end is lost.");
    private static readonly Option s_preallocation = new('\0', "preallocation", "MODE", "What place in the file the new bytes get: off, metadata (not for raw), falloc or full.");

    public override string Name => "resize";

    public override string Summary => "Make a disk larger, or smaller. New bytes read as zeros.";

    public override string Operands => "IMAGE [+|-]SIZE";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_shrink, s_preallocation, CommonOptions.Format, CommonOptions.ImageOpts, CommonOptions.Quiet, CommonOptions.Object,
        CommonOptions.PasswordFile, CommonOptions.Disk,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (arguments.Operands.Count != 2)
        {
            throw new UsageException("Expecting image file name and size", pointToHelp: true);
        }

        var preallocation = arguments.Get(s_preallocation) switch
        {
            null or "off" => ResizePreallocation.Off,
            "metadata" => ResizePreallocation.Metadata,
            "falloc" => ResizePreallocation.Falloc,
            "full" => ResizePreallocation.Full,
            var mode => throw new UsageException($"Invalid preallocation mode '{SafeText.Clean(mode, 32)}'"),
        };

        var (name, text) = (arguments.Operands[0], arguments.Operands[1]);
        var sign = text.StartsWith('+') ? 1 : text.StartsWith('-') ? -1 : 0;
        var size = SizeText.Parse(sign == 0 ? text : text[1..], "image size");
        var stop = session.WatchInterrupts();
        var disk = await ImageArguments.From(arguments, session).OpenAsync(name, options => options with { Writable = true }, stop).ConfigureAwait(false);
        await using (disk.ConfigureAwait(false))
        {
            var target = sign == 0 ? size : sign > 0 ? Sum(disk.Size, size) : disk.Size - size;
            if (target <= 0 && sign < 0)
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, "New image size must be positive");
            }

            // A raw file may have any length; a disk of it is whole sectors.
            if (target % Sizes.SectorBytes != 0 && disk.Format != "raw")
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"The new size must be a multiple of {Sizes.SectorBytes}");
            }

            if (!Sizes.TryAlignUp(target, Sizes.SectorBytes, out target))
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, "Image size must be less than 8 EiB!");
            }

            if (target < disk.Size && !arguments.Has(s_shrink))
            {
                throw new BlockException(
                    BlockErrorKind.InvalidRequest,
                    $"Use the --shrink option to perform a shrink operation. It deletes all data beyond {target} bytes: "
                    + "what uses them now (partitions, file systems) has to be made smaller first");
            }

            await disk.Node.ResizeAsync(target, preallocation, stop).ConfigureAwait(false);
        }

        if (!arguments.Has(CommonOptions.Quiet))
        {
            session.Out.Write("Image resized.\n");
        }

        return 0;
    }

    private static long Sum(long left, long right) => Sizes.TryAdd(left, right, out var sum) ? sum : long.MaxValue;
}
