using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Host.Native;
using Platter.Nbd.Client;
using Platter.Operations.Copy;

namespace Platter.Cli.Commands;

/// <summary><c>nbd copy</c>: bytes between exports and files, as nbdcopy copies them.</summary>
internal sealed class NbdCopyCommand : Command
{
    private const int MaxRequests = 64;
    private const int DefaultSparseBytes = 4096;
    private const int MaxSparseBytes = 16 << 20;
    private const int PieceBytes = 4 << 20;

    private static readonly Option s_requests = new('R', "requests", "COUNT", $"Requests in flight, 1 to {MaxRequests}; 16 by default.");
    private static readonly Option s_requestSize = new('\0', "request-size", "SIZE", "Longest request to a server; 1M by default, up to 32M.");
    private static readonly Option s_isZero = new('\0', "destination-is-zero", null, "DESTINATION reads as zeros already: write data only.");
    private static readonly Option s_targetIsZero = new('\0', "target-is-zero", null, string.Empty);
    private static readonly Option s_allocated = new('\0', "allocated", null, "Write zeros out instead of making holes.");
    private static readonly Option s_sparse = new('S', "sparse", "SIZE", "Runs of zeros of at least SIZE become holes (default 4096); 0 writes every byte that is not a hole.");
    private static readonly Option s_noExtents = new('\0', "no-extents", null, "Do not ask the source's server for holes: read everything.");
    private static readonly Option s_flush = new('\0', "flush", null, "Accepted: the end of a copy is always made durable.");
    private static readonly Option s_synchronous = new('\0', "synchronous", null, "One request at a time.");
    private static readonly Option s_threads = new('T', "threads", "COUNT", string.Empty);
    private static readonly Option s_queueSize = new('\0', "queue-size", "SIZE", string.Empty);
    private static readonly Option s_verbose = new('v', "verbose", null, string.Empty);
    private static readonly Option s_verify = new('\0', "verify", null, "Read DESTINATION back and compare it with SOURCE.");

    public override string Name => "nbd copy";

    public override string Summary => "Copy the bytes of an NBD export or a file into another one, holes kept as holes.";

    public override string Operands => "SOURCE DESTINATION";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, CommonOptions.Progress, NbdArguments.Connections, s_requests, s_requestSize, s_isZero, s_allocated, s_sparse, s_noExtents,
        s_verify, s_synchronous, s_flush, s_targetIsZero, s_threads, s_queueSize, s_verbose,
    ];

    public override string Details =>
        "SOURCE and DESTINATION are NBD URIs, or files or devices, whose bytes are copied as they are; DESTINATION can be - (standard output) or null: (nowhere). "
        + "The exit code is 0 only if every byte was read and written.";

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (arguments.Operands is not [var from, var to])
        {
            throw new UsageException("Expecting a source and a destination", pointToHelp: true);
        }

        if (from is "-" or "null:")
        {
            throw new UsageException($"{from}: the source must be an NBD export, a file or a device");
        }

        var verify = arguments.Has(s_verify);
        if (verify && to is "-" or "null:")
        {
            throw new UsageException($"{to} cannot be read back: --verify needs a destination that can");
        }

        var copy = CopyOptionsOf(arguments);
        var stop = session.WatchInterrupts();
        var image = new NodeOptions { ["driver"] = "raw" };
        image.SetChild("file", Place(from, arguments, isSource: true));
        var opened = await Disk.OpenAsync(image, new DiskOpenOptions { Format = "raw", Warn = session.Warn }, stop).ConfigureAwait(false);
        await using var closing = opened.ConfigureAwait(false);

        // A disk is a whole number of sectors; an export or a file need not be.
        var length = ((ImageNode)opened.Node).Driver.Storage.Length;
        var source = length < opened.Size ? opened.Slice(0, length) : opened;
        using var progress = ProgressLine.Start(session, arguments.Has(CommonOptions.Progress) && to != "-");
        switch (to)
        {
            case "null:":
                await CopyEngine.CopyAsync(source.Node, CopyTarget.Nowhere, copy, progress, stop).ConfigureAwait(false);
                break;
            case "-":
                await StreamAsync(source, stop).ConfigureAwait(false);
                break;
            default:
                var target = NbdArguments.Parse(to) is null ? to : JsonName(Place(to, arguments, isSource: false));
                await Disk.ConvertAsync(source, target, null, new DiskConvertOptions { Copy = copy, Verify = verify, Warn = session.Warn }, progress, stop).ConfigureAwait(false);
                break;
        }

        progress.Complete(new CopyProgress(source.Size, source.Size, 0));
        return 0;
    }

    private static CopyOptions CopyOptionsOf(Arguments arguments)
    {
        foreach (var ignored in new[] { s_threads, s_queueSize })
        {
            _ = arguments.Get(ignored) is { } text ? SizeText.Parse(text, ignored.Long) : 0;
        }

        var sparse = arguments.Get(s_sparse) is { } size ? (int)SizeText.Parse(size, "sparse size", 0, MaxSparseBytes) : DefaultSparseBytes;
        return new CopyOptions
        {
            Workers = arguments.Has(s_synchronous) ? 1 : NbdArguments.Number(arguments, s_requests, 1, MaxRequests) ?? 16,
            SparseBytes = arguments.Has(s_allocated) ? 0 : sparse,
            TargetIsZero = arguments.Has(s_isZero) || arguments.Has(s_targetIsZero),
        };
    }

    // An export with the options that the command line has for it, or a file.
    private static NodeOptions Place(string name, Arguments arguments, bool isSource)
    {
        if (NbdArguments.Parse(name) is not { } export)
        {
            return NodeOptions.ForFile(Target.PathOf(name));
        }

        if (NbdArguments.Number(arguments, NbdArguments.Connections, 1, 64) is { } connections)
        {
            export[NbdClientOptions.ConnectionsOption] = connections.ToString(CultureInfo.InvariantCulture);
        }

        if (arguments.Get(s_requestSize) is { } size)
        {
            export[NbdClientOptions.RequestSizeOption] = SizeText.Parse(size, "request size", 4096, 32 << 20).ToString(CultureInfo.InvariantCulture);
        }

        if (isSource && arguments.Has(s_noExtents))
        {
            export[NbdClientOptions.MapsOption] = "off";
        }

        return export;
    }

    private static async ValueTask StreamAsync(Disk source, CancellationToken cancellationToken)
    {
        var output = StandardStreams.OpenOutput();
        var (now, next) = (new byte[PieceBytes], new byte[PieceBytes]);
        var reading = source.ReadAsync(0, now, cancellationToken).AsTask();
        for (long at = 0; at < source.Size;)
        {
            var count = await reading.ConfigureAwait(false);
            at += count;
            if (at < source.Size)
            {
                reading = source.ReadAsync(at, next, cancellationToken).AsTask();
            }

            try
            {
                output.Write(now.AsSpan(0, count));
            }
            catch
            {
                // The buffer is the reader's until it is through.
                await ((Task)reading).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                throw;
            }

            (now, next) = (next, now);
        }
    }

    private static string JsonName(NodeOptions options)
    {
        var text = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(text))
        {
            json.WriteStartObject();
            foreach (var key in options.Keys)
            {
                json.WriteString(key, options[key]);
            }

            json.WriteEndObject();
        }

        return "json:" + Encoding.UTF8.GetString(text.WrittenSpan);
    }
}
