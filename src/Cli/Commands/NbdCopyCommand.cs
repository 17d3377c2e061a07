using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Cli.Serving;
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
    private const string Standard = "-", Nowhere = "null:";

    private static readonly Option s_progress = new(
        'p', "progress", "[=FD]", "Show how far it is; with FD, write lines N/100 for another program to that descriptor.");
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
        CommonOptions.Help, s_progress, NbdArguments.Connections, s_requests, s_requestSize, s_isZero, s_allocated, s_sparse, s_noExtents,
        s_verify, s_synchronous, s_flush, s_targetIsZero, s_threads, s_queueSize, s_verbose,
    ];

    public override string Details =>
        "SOURCE and DESTINATION are NBD URIs, files or devices, whose bytes are copied as they are, - (standard input and output), or servers that take a socket from a service "
        + "manager and are started for this copy: nbd copy -- [ qemu-nbd -r -f qcow2 disk.qcow2 ] disk.raw. DESTINATION can be null: (nowhere). "
        + "The exit code is 0 only if every byte was read and written.";

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (NbdPlace.Parse(arguments.Operands) is not [var from, var to])
        {
            throw new UsageException("Expecting a source and a destination", pointToHelp: true);
        }

        if (from.Name == Nowhere)
        {
            throw new UsageException($"{Nowhere}: the source must be an NBD export, a file, a device or -");
        }

        var verify = arguments.Has(s_verify);
        if (verify && (to.Name is Standard or Nowhere || from.Name == Standard))
        {
            throw new UsageException($"--verify reads source and destination again: neither can be {(from.Name == Standard ? Standard : to.Name)}");
        }

        var copy = CopyOptionsOf(arguments);
        var stop = session.WatchInterrupts();
        using var servers = new StartedServers(session);
        using var descriptor = arguments.Get(s_progress) is { } fd ? ProgressDescriptor.Open(fd) : null;
        using var line = ProgressLine.Start(session, arguments.Has(s_progress) && descriptor is null && to.Name != Standard);
        IProgress<CopyProgress> progress = descriptor is null ? line : descriptor;
        if (from.Name == Standard)
        {
            await CopyInputAsync(to, servers, arguments, copy, progress, stop).ConfigureAwait(false);
        }
        else
        {
            await CopyAsync(session, from, to, servers, arguments, copy, verify, progress, stop).ConfigureAwait(false);
        }

        descriptor?.Report(new CopyProgress(1, 1, 1));
        line.Complete();
        return 0;
    }

    private static async ValueTask CopyAsync(
        Session session, NbdPlace from, NbdPlace to, StartedServers servers, Arguments arguments, CopyOptions copy, bool verify, IProgress<CopyProgress> progress, CancellationToken stop)
    {
        var image = new NodeOptions { ["driver"] = "raw" };
        image.SetChild("file", Place(from, servers, arguments, isSource: true));
        var opened = await Disk.OpenAsync(image, new DiskOpenOptions { Format = "raw", Warn = session.Warn }, stop).ConfigureAwait(false);
        await using var closing = opened.ConfigureAwait(false);

        // A disk is a whole number of sectors; an export or a file need not be.
        var length = ((ImageNode)opened.Node).Driver.Storage.Length;
        var source = length < opened.Size ? opened.Slice(0, length) : opened;
        switch (to.Name)
        {
            case Nowhere:
                await CopyEngine.CopyAsync(source.Node, CopyTarget.Nowhere, copy, progress, stop).ConfigureAwait(false);
                break;
            case Standard:
                await StreamAsync(source, stop).ConfigureAwait(false);
                break;
            default:
                var target = TargetName(to, servers, arguments);
                await Disk.ConvertAsync(source, target, null, new DiskConvertOptions { Copy = copy, Verify = verify, Warn = session.Warn }, progress, stop).ConfigureAwait(false);
                break;
        }
    }

    private static async ValueTask CopyInputAsync(
        NbdPlace to, StartedServers servers, Arguments arguments, CopyOptions copy, IProgress<CopyProgress> progress, CancellationToken stop)
    {
        using var input = Console.OpenStandardInput();
        switch (to.Name)
        {
            case Nowhere:
                await StreamCopy.CopyAsync(input, CopyTarget.Nowhere, Nowhere, long.MaxValue, copy, progress, stop).ConfigureAwait(false);
                break;
            case Standard:
                await Task.Run(() => input.CopyTo(StandardStreams.OpenOutput(), PieceBytes), stop).WaitAsync(stop).ConfigureAwait(false);
                break;
            default:
                await Disk.ConvertStreamAsync(input, TargetName(to, servers, arguments), copy, progress, stop).ConfigureAwait(false);
                break;
        }
    }

    private static string TargetName(NbdPlace place, StartedServers servers, Arguments arguments)
    {
        var options = Place(place, servers, arguments, isSource: false);
        return options.Driver == "nbd" ? JsonName(options) : options["filename"]!;
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
    private static NodeOptions Place(NbdPlace place, StartedServers servers, Arguments arguments, bool isSource)
    {
        var name = servers.NameOf(place);
        if (NbdArguments.Parse(name) is not { } export)
        {
            return NodeOptions.ForFile(Target.PathOf(name));
        }

        // A server that was started for one client lets no others in, whatever it says.
        if ((place.Name is null ? 1 : NbdArguments.Number(arguments, NbdArguments.Connections, 1, 64)) is { } connections)
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
