using System.Buffers;
using System.Text;
using System.Text.Json;
using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Faults;
using Platter.Core.Images;
using Platter.Operations.Copy;
using Platter.Operations.Digest;

namespace Platter.Cli.Commands;

/// <summary><c>convert</c>: a disk's bytes into a new image, raw or qcow2, or into one that is there.</summary>
internal sealed class ConvertCommand : Command
{
    private const int DefaultSparseBytes = 4096;
    private const long MaxSparseBytes = 16 * 1024 * 1024;

    private static readonly Option s_targetFormat = new('O', "target-format", "FMT", "The target's format: qcow2, parallels, parallels-bundle, or raw, which is the default.");
    private static readonly Option s_options = new(
        'o', "options", "KEY=VALUE,...", "Options of the new image, such as cluster_size=2M. '-O FMT -o help' lists them.");

    private static readonly Option s_noCreate = new('n', "no-create", null, "Write into a file or device that is there already and large enough.");
    private static readonly Option s_targetIsZero = new('\0', "target-is-zero", null, "With -n: the target reads as zeros already, write data only.");
    private static readonly Option s_sparse = new(
        'S', "sparse-size", "SIZE", "Runs of zeros of at least SIZE become holes (default 4k); 0 writes every byte.");

    private static readonly Option s_workers = new('m', "parallel", "COUNT", "Requests in flight, 1 to 16. Without it the machine decides.");
    private static readonly Option s_anyOrder = new('W', "out-of-order", null, "Accepted: writes are in any order anyway.");
    private static readonly Option s_hostCopy = new('C', "copy-offload", null, "Let the host copy plain data, without looking for zeros in it.");
    private static readonly Option s_rate = new('r', "rate-limit", "RATE", "Bytes per second at most, such as 50M.");
    private static readonly Option s_salvage = new('\0', "salvage", null, "Go on after read errors: what cannot be read becomes zeros and is reported.");
    private static readonly Option s_cache = new('t', "target-cache", "MODE", "Accepted for the peers' sake: none, writeback, writethrough, directsync or unsafe.");
    private static readonly Option s_targetImageOpts = new('\0', "target-image-opts", null, "With -n: TARGET is a list of options.");
    private static readonly Option s_compress = new('c', "compress", null, "Store the clusters compressed (qcow2).");
    private static readonly Option s_compressionLevel = new(
        '\0', "compression-level", "LEVEL", "With -c: 1 (fast) to 9 (small), with compression_type=zstd to 22. Default: the library's.");

    private static readonly Option s_backing = new(
        'B', "backing", "FILE", "The new image's backing file, which reads as the source's: only what the source's top image holds is copied.");

    private static readonly Option s_backingFormat = new('F', "backing-format", "FMT", "FILE's format. Has to be given with -B.");
    private static readonly Option s_resume = new(
        '\0', "resume", null, "Go on with a copy that was interrupted: what the target has already is compared, and only the rest is written.");

    private static readonly Option s_verify = new('\0', "verify", null, "Read the finished target back and compare it with the source.");
    private static readonly Option s_digest = new('\0', "digest", null, "Compute the digest of the content while copying, and print it.");
    private static readonly Option s_bitmaps = new('\0', "bitmaps", null, "Copy the persistent bitmaps of the source's top image too.");
    private static readonly Option s_skipBrokenBitmaps = new(
        '\0', "skip-broken-bitmaps", null, "With --bitmaps: leave out inconsistent ones instead of failing.");

    private static readonly Option s_snapshots = new(
        '\0', "snapshots", "FORM", "Copy all snapshots too, with names and dates: 'internal' (in one image or bundle) or 'chain' (one overlay file each, beside TARGET); 'none' is the default. "
        + "Without -O, TARGET is then a bundle if its name ends in .hdd, otherwise qcow2.");

    public override string Name => "convert";

    public override string Summary => "Copy what a guest would read from a disk, or a snapshot of it, into a new image. Several sources are put one after the other.";

    public override string Operands => "SOURCE... TARGET";

    public override string Details =>
        "A bundle's snapshots, the internal ones of a qcow2 image or, if it has none or with --snapshots=chain, the images of its backing chain become those of TARGET. A chain is the line from SOURCE down to "
        + "its base: overlay files of other branches are named in a warning and left out. --digest prints a line for each state.";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, CommonOptions.Format, s_targetFormat, s_options, CommonOptions.Snapshot, CommonOptions.Progress, CommonOptions.Quiet,
        s_noCreate, s_targetIsZero, s_sparse, s_salvage, s_workers, s_anyOrder, s_hostCopy, s_rate, s_resume, s_verify, s_digest, CommonOptions.ForceShare,
        CommonOptions.ImageOpts, s_targetImageOpts, CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk, CommonOptions.Untrusted,
        s_snapshots, s_compress, s_compressionLevel, s_cache, CommonOptions.SourceCache, s_backing, s_backingFormat, s_bitmaps, s_skipBrokenBitmaps,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var create = CreateOptions.Parse(arguments.GetAll(s_options));
        if (CreateOptions.AsksForHelp(create))
        {
            var asked = TargetFormatOf(arguments);
            CreateOptions.WriteHelp(session.Out, asked, withFile: true);
            return 0;
        }

        if (arguments.Has(s_noCreate) && arguments.Has(s_options))
        {
            throw new UsageException("-o has no effect when skipping image creation");
        }

        var quiet = arguments.Has(CommonOptions.Quiet);
        if (create.Has("size"))
        {
            create.Remove("size");
            session.Warn("-o size has no effect: the new image has the size of the source");
        }

        var copy = CopyOptionsOf(arguments, session, quiet);
        RefuseWhatDoesNotGoTogether(arguments);
        if (arguments.Operands.Count < 2)
        {
            throw new UsageException("Must specify image file name");
        }

        if (arguments.Has(CommonOptions.Snapshot) && arguments.Operands.Count > 2)
        {
            throw new UsageException("No support for concatenating multiple snapshot");
        }

        var (format, target, keySecret) = TargetOf(arguments);
        if (keySecret is not null)
        {
            create["encrypt.key-secret"] = keySecret;
        }

        var options = new DiskConvertOptions
        {
            Copy = copy,
            UseExistingTarget = arguments.Has(s_noCreate),
            Compress = arguments.Has(s_compress),
            CompressionLevel = CompressionLevelOf(arguments, create),
            Verify = arguments.Has(s_verify),
            Resume = arguments.Has(s_resume),
            Bitmaps = arguments.Has(s_bitmaps),
            SkipBrokenBitmaps = arguments.Has(s_skipBrokenBitmaps),
            Warn = session.Warn,
        };
        var newImage = CreateOf(format, create, arguments, session);
        var stop = session.WatchInterrupts();
        var images = ImageArguments.From(arguments, session);
        if (SnapshotFormOf(arguments, format) is var form and not SnapshotForm.None)
        {
            return await CopySnapshotsAsync(images, arguments, (target, newImage), form, options, session, stop).ConfigureAwait(false);
        }

        var source = await OpenSourcesAsync(images, arguments.Operands, stop).ConfigureAwait(false);
        await using var closing = source.ConfigureAwait(false);
        var digest = arguments.Has(s_digest) ? new DigestTree(source.Size) : null;
        options = options with { Copy = copy with { Digest = digest } };
        using var progress = ProgressLine.Start(session, arguments.Has(CommonOptions.Progress) && !quiet);
        string? unfinished = null;
        options = options with { OnUnfinished = name => unfinished = name };
        try
        {
            await Disk.ConvertAsync(source, target, newImage, options, progress, stop).ConfigureAwait(false);
        }
        catch (BlockException e) when (unfinished is not null)
        {
            throw new BlockException(e.Kind, $"{e.Message}; {HowToGoOn(unfinished)}", e);
        }
        catch (OperationCanceledException) when (unfinished is not null)
        {
            progress.GiveWay();
            session.Complain(HowToGoOn(unfinished));
            throw;
        }

        progress.Complete(new CopyProgress(source.Size, source.Size, 0));
        if (digest is not null)
        {
            progress.WriteResult($"{digest.Finish()}  {SafeText.Clean(arguments.Operands[^1])}");
        }

        return 0;
    }

    private static async ValueTask<int> CopySnapshotsAsync(
        ImageArguments images, Arguments arguments, (string Path, DiskCreateOptions Image) target, SnapshotForm form, DiskConvertOptions options, Session session,
        CancellationToken cancellationToken)
    {
        using var progress = ProgressLine.Start(session, arguments.Has(CommonOptions.Progress) && !arguments.Has(CommonOptions.Quiet));
        Action<string, string>? digest = arguments.Has(s_digest)
            ? (value, name) => progress.WriteResult($"{value}  {SafeText.Clean(target.Path)}  {SafeText.Clean(name, 256)}")
            : null;
        var source = await images.OpenAsync(arguments.Operands[0], null, cancellationToken).ConfigureAwait(false);
        await using var closing = source.ConfigureAwait(false);
        await Disk.ConvertSnapshotsAsync(source, target.Path, target.Image, form, options, digest, progress, cancellationToken).ConfigureAwait(false);
        progress.Complete(default);
        return 0;
    }

    // Without -O the target is raw, whatever its name, as the peers have it. They have no --snapshots, and raw no snapshots: who asks for these means what the name says.
    private static string TargetFormatOf(Arguments arguments)
    {
        var name = arguments.Operands.Count > 0 ? arguments.Operands[^1].TrimEnd('/') : string.Empty;
        return arguments.Has(s_targetFormat) || !arguments.Has(s_snapshots) ? Target.FormatOf(arguments.Get(s_targetFormat))
            : name.EndsWith(".hdd", StringComparison.OrdinalIgnoreCase) ? "parallels-bundle"
            : arguments.Get(s_snapshots) != "none" || name.EndsWith(".qcow2", StringComparison.OrdinalIgnoreCase) ? "qcow2"
            : "raw";
    }

    private static SnapshotForm SnapshotFormOf(Arguments arguments, string format)
    {
        if (arguments.Get(s_snapshots) is not { } text || text == "none")
        {
            return SnapshotForm.None;
        }

        var form = text switch
        {
            "internal" => SnapshotForm.Internal,
            "chain" => SnapshotForm.Chain,
            _ => throw new UsageException($"Invalid form of snapshots '{SafeText.Clean(text, 64)}': internal, chain and none are possible"),
        };
        var reason =
            format is "raw" or "parallels" ? $"An image of format '{format}' cannot hold snapshots; -O qcow2 and -O parallels-bundle can"
            : arguments.Operands.Count > 2 ? "No support for concatenating disks with their snapshots"
            : arguments.Has(CommonOptions.Snapshot) ? "--snapshots and -l are mutually exclusive"
            : arguments.Has(s_noCreate) || arguments.Has(s_resume) ? "--snapshots makes new images: neither -n nor --resume can be used with it (what an interrupted copy left is replaced)"
            : arguments.Has(s_bitmaps) || arguments.Has(s_backing) || arguments.Has(s_hostCopy) ? "--snapshots cannot be used with --bitmaps, -B or -C"
            : null;
        return reason is null ? form : throw new UsageException(reason);
    }

    private static async ValueTask<Disk> OpenSourcesAsync(ImageArguments images, IReadOnlyList<string> operands, CancellationToken cancellationToken)
    {
        var disks = new List<Disk>();
        try
        {
            for (var i = 0; i < operands.Count - 1; i++)
            {
                disks.Add(await images.OpenAsync(operands[i], null, cancellationToken).ConfigureAwait(false));
            }

            return Disk.Concatenate(disks);
        }
        catch
        {
            foreach (var disk in disks)
            {
                await disk.DisposeAsync().ConfigureAwait(false);
            }

            throw;
        }
    }

    private static CopyOptions CopyOptionsOf(Arguments arguments, Session session, bool quiet)
    {
        var sparse = (long)DefaultSparseBytes;
        if (arguments.Get(s_sparse) is { } sparseText)
        {
            sparse = SizeText.Parse(sparseText, "buffer size for sparse output");
            if (sparse % 512 != 0 || sparse > MaxSparseBytes)
            {
                throw new UsageException(
                    $"Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to {MaxSparseBytes}. "
                    + "Select 0 to disable sparse detection (fully allocates output).");
            }
        }

        var workers = 0L;
        if (arguments.Get(s_workers) is { } workersText && (!long.TryParse(workersText, out workers) || workers is < 1 or > 16))
        {
            throw new UsageException("Invalid number of coroutines. Allowed number of coroutines is between 1 and 16");
        }

        if (arguments.Get(s_cache) is { } cache && !CommonOptions.IsCacheMode(cache))
        {
            throw new UsageException($"Invalid cache option: {cache}");
        }

        if (arguments.Get(CommonOptions.SourceCache) is { } sourceCache && !CommonOptions.IsCacheMode(sourceCache))
        {
            throw new UsageException($"Invalid source cache option: {sourceCache}");
        }

        if (arguments.Has(s_hostCopy) && (arguments.Has(s_sparse) || arguments.Has(s_compress) || arguments.Has(s_salvage)))
        {
            throw new UsageException(
                arguments.Has(s_sparse) ? "Cannot enable copy offloading when -S is used"
                : arguments.Has(s_compress) ? "Cannot enable copy offloading when -c is used"
                : "Cannot use copy offloading in salvaging mode");
        }

        if (arguments.Has(s_resume) && arguments.Has(s_noCreate))
        {
            throw new UsageException("--resume and -n are mutually exclusive");
        }

        if (arguments.Has(s_targetIsZero) && !arguments.Has(s_noCreate))
        {
            throw new UsageException("--target-is-zero requires use of -n flag");
        }

        return new CopyOptions
        {
            Workers = (int)workers,
            SparseBytes = (int)sparse,
            TargetIsZero = arguments.Has(s_targetIsZero),
            HostCopy = arguments.Has(s_hostCopy),
            Salvage = arguments.Has(s_salvage),
            OnSalvaged = quiet
                ? static (_, _, _) => { }
                : (at, length, e) => session.Warn($"error while reading {length} bytes at offset {at.Value}, zeros are written instead: {e.Message}"),
            BytesPerSecond = arguments.Get(s_rate) is { } rate ? SizeText.Parse(rate, "rate limit") : 0,
        };
    }

    private static string HowToGoOn(string unfinished) => $"{unfinished} is an unfinished copy, and the same command with --resume goes on with it";

    private static DiskCreateOptions CreateOf(string format, NodeOptions options, Arguments arguments, Session session)
    {
        if (format == "raw")
        {
            if (arguments.Has(s_backing) || options.Has("backing_file"))
            {
                throw new UsageException("Backing file not supported for file format 'raw'");
            }

            return new RawCreateOptions { Preallocation = CreateOptions.PreallocationOf(options) };
        }

        if (arguments.Get(s_backing) is { } backing)
        {
            options["backing_file"] = backing;
        }

        if (arguments.Get(s_backingFormat) is { } backingFormat)
        {
            options["backing_fmt"] = backingFormat;
        }

        // A filter's disk is written to as if it were a raw image, wherever it comes from.
        return new NamedCreateOptions(format == FaultOptions.Driver ? "raw" : format, options)
        {
            Secrets = ObjectSecrets.Parse(arguments.GetAll(CommonOptions.Object)),
            NbdCredentials = id => TlsArguments.Client(arguments, id),
            Password = ImageArguments.PasswordOf(arguments, session),
        };
    }

    private static int? CompressionLevelOf(Arguments arguments, NodeOptions create)
    {
        if (arguments.Get(s_compressionLevel) is not { } text)
        {
            return null;
        }

        if (!arguments.Has(s_compress))
        {
            throw new UsageException("--compression-level requires -c");
        }

        var most = create["compression_type"] == "zstd" ? 22 : 9;
        return int.TryParse(text, out var level) && level >= 1 && level <= most
            ? level
            : throw new UsageException($"Invalid compression level '{SafeText.Clean(text, 64)}': 1 to {most} are possible");
    }

    private static void RefuseWhatDoesNotGoTogether(Arguments arguments)
    {
        var format = arguments.Has(s_targetImageOpts) ? null : TargetFormatOf(arguments);
        if (arguments.Has(s_skipBrokenBitmaps) && !arguments.Has(s_bitmaps))
        {
            throw new UsageException("Use of --skip-broken-bitmaps requires --bitmaps");
        }

        var reason =
            arguments.Has(s_bitmaps) && arguments.Has(CommonOptions.Snapshot) ? "--bitmaps and -l are mutually exclusive: bitmaps belong to the current state"
            : arguments.Has(s_bitmaps) && arguments.Operands.Count > 2 ? "Copying bitmaps only possible with single source"
            : format != "raw" ? null
            : arguments.Has(s_bitmaps) ? "Format driver 'raw' does not support bitmaps"
            : arguments.Has(s_compress) ? "Compression not supported for this file format"
            : arguments.Has(s_backing) ? "Backing file not supported for file format 'raw'"
            : arguments.Has(s_backingFormat) ? "Backing file format not supported for file format 'raw'"
            : null;
        if (reason is not null)
        {
            throw new UsageException(reason);
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

    private static (string Format, string Path, string? KeySecret) TargetOf(Arguments arguments)
    {
        var name = arguments.Operands[^1];
        if (!arguments.Has(s_targetImageOpts))
        {
            return (TargetFormatOf(arguments), Target.PathOf(name, mayBeExport: true), null);
        }

        if (!arguments.Has(s_noCreate))
        {
            throw new UsageException("--target-image-opts requires use of -n flag");
        }

        if (arguments.Has(s_targetFormat))
        {
            throw new UsageException("-O cannot be used with --target-image-opts");
        }

        var options = NodeOptions.ParseKeyValues(name);
        var format = "raw";
        var keySecret = options["encrypt.key-secret"];
        if (options.Driver == FaultOptions.Driver && options.HasChild("image"))
        {
            // Over an image or a file: what is written to is what the filter shows.
            return (FaultOptions.Driver, JsonName(options), null);
        }

        if (options.Driver is not ("file" or "host_device" or "nbd"))
        {
            format = Target.FormatOf(options.Driver);
            options = options.HasChild("file") ? options.Child("file") : options;
        }

        if (options.Driver == "nbd")
        {
            return (format, JsonName(options), keySecret);
        }

        return options.Driver is null or "file" or "host_device" or "raw" or "qcow2" && options["filename"] is { } path
            ? (format, path, keySecret)
            : throw new UsageException($"{SafeText.Clean(name, 256)}: the target must be a local file or device: expected driver=raw,file.filename=PATH");
    }
}
