using Platter.Cli.Options;
using Platter.Core.Errors;

namespace Platter.Cli.Commands;

/// <summary><c>dd</c>: part of a disk's bytes into a new image, with dd's operands.</summary>
internal sealed class DdCommand : Command
{
    private const int DefaultBlockBytes = 512;

    private static readonly Option s_targetFormat = new('O', "target-format", "FMT", "The target's format: qcow2, parallels, or raw, which is the default.");

    public override string Name => "dd";

    public override string Summary => "Copy part of what a guest would read from a disk into a new image, holes kept as holes.";

    public override string Operands => "if=SOURCE of=TARGET [bs=SIZE] [count=BLOCKS] [skip=BLOCKS]";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, CommonOptions.Format, s_targetFormat, CommonOptions.ForceShare, CommonOptions.ImageOpts, CommonOptions.Object,
        CommonOptions.PasswordFile, CommonOptions.Disk, CommonOptions.Untrusted,
    ];

    public override string Details =>
        "bs is the block size (512 by default), skip the blocks left out at the start of the source, count the blocks copied after them.";

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        string? input = null, output = null;
        long block = DefaultBlockBytes, skip = 0, count = long.MaxValue;
        foreach (var operand in arguments.Operands)
        {
            var equals = operand.IndexOf('=', StringComparison.Ordinal);
            var (key, value) = equals < 0 ? (operand, string.Empty) : (operand[..equals], operand[(equals + 1)..]);
            switch (equals < 0 ? string.Empty : key)
            {
                case "if":
                    input = value;
                    break;
                case "of":
                    output = value;
                    break;
                case "bs":
                    block = SizeText.Parse(value, "bs", 1, int.MaxValue);
                    break;
                case "count":
                    count = SizeText.Parse(value, "count");
                    break;
                case "skip":
                    skip = SizeText.Parse(value, "skip");
                    break;
                default:
                    throw new UsageException($"unrecognized operand {SafeText.Clean(key, 256)}");
            }
        }

        if (input is null || output is null)
        {
            throw new UsageException("Must specify both input and output files");
        }

        var format = Target.FormatOf(arguments.Get(s_targetFormat));
        var target = Target.PathOf(output, mayBeExport: true);
        var stop = session.WatchInterrupts();
        var disk = await ImageArguments.From(arguments, session).OpenAsync(input, null, stop).ConfigureAwait(false);
        await using var closing = disk.ConfigureAwait(false);
        var start = Math.Min(Bytes(skip, block), disk.Size);
        if (Bytes(skip, block) > disk.Size)
        {
            session.Complain($"{input}: cannot skip to specified offset");
        }

        var part = disk.Slice(start, Math.Min(Bytes(count, block), disk.Size - start));
        await Disk.ConvertAsync(part, target, format == "raw" ? null : new NamedCreateOptions(format, new()), cancellationToken: stop).ConfigureAwait(false);
        return 0;
    }

    // More than fits is as good as the largest number: the disk ends before it.
    private static long Bytes(long blocks, long blockBytes) => blocks > long.MaxValue / blockBytes ? long.MaxValue : blocks * blockBytes;
}
