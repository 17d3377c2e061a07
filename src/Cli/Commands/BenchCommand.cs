using System.Diagnostics;
using System.Globalization;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Operations.Offline;

namespace Platter.Cli.Commands;

/// <summary><c>bench</c>: how fast is an image?</summary>
internal sealed class BenchCommand : Command
{
    private static readonly Option s_count = new('c', "count", "COUNT", "How many requests; 75000 unless given.");
    private static readonly Option s_depth = new('d', "depth", "DEPTH", "How many at once; 64 unless given.");
    private static readonly Option s_aio = new('i', "aio", "AIO", "Accepted for the peers' sake: threads, native or io_uring.");
    private static readonly Option s_native = new('n', "native", null, "Accepted for the peers' sake: as -i native.");
    private static readonly Option s_flush = new('\0', "flush-interval", "COUNT", "Flush after every COUNT writes.");
    private static readonly Option s_noDrain = new('\0', "no-drain", null, "Flush without waiting for the requests under way.");
    private static readonly Option s_offset = new('o', "offset", "OFFSET", "Where the first request starts.");
    private static readonly Option s_pattern = new('\0', "pattern", "BYTE", "What is written, 0 to 255; 0 unless given.");
    private static readonly Option s_size = new('s', "buffer-size", "SIZE", "Bytes of a request; 4k unless given.");
    private static readonly Option s_step = new('S', "step-size", "SIZE", "From the start of one request to that of the next; as large as a request unless given.");
    private static readonly Option s_write = new('w', "write", null, "Write. What the disk held is lost.");

    public override string Name => "bench";

    public override string Summary => "Send a stream of requests to an image, and tell how long that took.";

    public override string Operands => "IMAGE";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_count, s_depth, s_aio, s_native, s_flush, s_noDrain, s_offset, s_pattern, s_size, s_step, s_write, CommonOptions.Format,
        CommonOptions.ImageOpts, CommonOptions.Cache, CommonOptions.Quiet, CommonOptions.ForceShare, CommonOptions.Object, CommonOptions.PasswordFile,
        CommonOptions.Disk,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var name = OneImage(arguments);
        var options = Parse(arguments);
        var stop = session.WatchInterrupts();
        var disk = await ImageArguments.From(arguments, session).OpenAsync(
            name, given => given with { Writable = options.Writes }, stop).ConfigureAwait(false);
        await using (disk.ConfigureAwait(false))
        {
            session.Out.Write(
                $"Sending {options.Count} {(options.Writes ? "write" : "read")} requests, {options.RequestBytes} bytes each, {options.Depth} in parallel "
                + $"(starting at offset {options.Offset}, step size {options.StepBytes})\n");
            if (options.FlushInterval > 0)
            {
                session.Out.Write($"Sending flush every {options.FlushInterval} requests\n");
            }

            session.Out.Flush();
            var start = Stopwatch.GetTimestamp();
            try
            {
                await BenchOperation.RunAsync(disk.Node, options, stop).ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                throw new BlockException(e.Kind, $"Failed request: {e.Message}", e);
            }

            var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            session.Out.Write(string.Create(CultureInfo.InvariantCulture, $"Run completed in {seconds:0.000} seconds.\n"));
        }

        return 0;
    }

    private static BenchOptions Parse(Arguments arguments)
    {
        if (arguments.Get(s_aio) is { } aio && aio is not ("threads" or "native" or "io_uring"))
        {
            throw new UsageException($"Invalid aio option: {SafeText.Clean(aio, 64)}");
        }

        if (arguments.Get(CommonOptions.Cache) is { } cache && !CommonOptions.IsCacheMode(cache))
        {
            throw new UsageException("Invalid cache mode");
        }

        var defaults = new BenchOptions();
        var size = arguments.Get(s_size) is { } sizeText ? (int)SizeText.Parse(sizeText, "buffer size", 0, int.MaxValue) : defaults.RequestBytes;
        var step = arguments.Get(s_step) is { } stepText ? (int)SizeText.Parse(stepText, "step_size", 0, int.MaxValue) : 0;
        var options = new BenchOptions
        {
            Count = Number(s_count, "request count", 0, defaults.Count),
            Depth = Number(s_depth, "queue depth", 1, defaults.Depth),
            RequestBytes = size,
            StepBytes = step == 0 ? size : step,
            Offset = arguments.Get(s_offset) is { } offset ? SizeText.Parse(offset, "offset") : 0,
            Writes = arguments.Has(s_write),
            Pattern = (byte)Number(s_pattern, "pattern byte", 0, 0, byte.MaxValue),
            FlushInterval = Number(s_flush, "flush interval", 0, 0),
            DrainsBeforeFlush = !arguments.Has(s_noDrain),
        };
        if (!options.Writes && options.FlushInterval > 0)
        {
            throw new UsageException("--flush-interval is only available in write tests");
        }

        if (options.FlushInterval > 0 && options.FlushInterval < options.Depth)
        {
            throw new UsageException("Flush interval can't be smaller than depth");
        }

        return options;

        int Number(Option option, string what, int least, int otherwise, int most = int.MaxValue)
        {
            if (arguments.Get(option) is not { } text)
            {
                return otherwise;
            }

            var isHex = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
            var parsed = int.TryParse(
                isHex ? text.AsSpan(2) : text, isHex ? NumberStyles.AllowHexSpecifier : NumberStyles.None, CultureInfo.InvariantCulture, out var number);
            return parsed && number >= least && number <= most ? number : throw new UsageException($"Invalid {what} specified");
        }
    }
}
