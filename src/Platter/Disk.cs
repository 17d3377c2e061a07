using System.Text;
using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Metadata;
using Platter.Core.Units;
using Platter.Host.Files;
using Platter.Operations.Copy;
using Platter.Operations.Digest;
using Platter.Operations.Offline;
using Platter.Snapshots;

namespace Platter;

/// <summary>A virtual disk, opened for reading, or for writing too where the format can: qcow2, Parallels image or bundle, raw, or an NBD export, with its backing chain.</summary>
/// <remarks>
/// Thread-safe: any number of requests may run at once. Offsets and sizes are guest bytes. Every error is a
/// <see cref="BlockException"/>: switch on its <see cref="BlockException.Kind"/>.
/// </remarks>
/// <example><code>
/// await using var disk = await Disk.OpenAsync("vm.hdd");
/// await disk.ReadAsync(0, buffer);
/// </code></example>
public sealed partial class Disk : IAsyncDisposable
{
    private const string PasswordSecretId = "platter-password";

    private DiskOpenOptions _options = new();
    private NodeOptions? _source;

    private Disk(BlockNode node) => Node = node;

    /// <summary>Size of the virtual disk, in bytes.</summary>
    public long Size => Node.VirtualSize;

    /// <summary>The format's name.</summary>
    public string Format => Node.FormatName;

    /// <summary>Snapshots that can be opened as a source.</summary>
    public IReadOnlyList<SnapshotInfo> Snapshots => Node.Snapshots;

    /// <summary>Persistent dirty bitmaps of the top image.</summary>
    public IReadOnlyList<BitmapInfo> Bitmaps => Node.Bitmaps;

    /// <summary>The node behind it, for code that builds on the block layer.</summary>
    public BlockNode Node { get; }

    /// <summary>Opens a disk by name: a path, a bundle's directory, <c>json:{…}</c>, or an NBD URI.</summary>
    /// <exception cref="BlockException">It cannot be opened; the message names the file, the structure and the value.</exception>
    public static ValueTask<Disk> OpenAsync(string name, DiskOpenOptions? options = null, CancellationToken cancellationToken = default) =>
        OpenAsync(DiskName.Parse(name), options, cancellationToken);

    /// <summary>Opens a disk by options (<c>driver=qcow2,file.filename=…</c>), as <c>--image-opts</c> gives them.</summary>
    /// <exception cref="BlockException">It cannot be opened.</exception>
    public static async ValueTask<Disk> OpenAsync(
        NodeOptions source, DiskOpenOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new DiskOpenOptions();
        var named = source;
        var secrets = options.Secrets;
        if (options.Password is { } password)
        {
            secrets = new OnePassword(password, secrets);
        }

        if (options.BundleDisk is { } disk)
        {
            source = Nested(source);
            source["disk"] = disk;
        }

        var context = new OpenContext
        {
            Formats = KnownFormats.Registry,
            Storages = new HostStorageOpener(options.NbdCredentials, options.BypassHostCache),
            Gate = options.Gate ?? ChooseGate(options),
            Codecs = KnownFormats.Codecs,
            CompressionLevel = options.CompressionLevel,
            AllowUnfinished = options.AllowUnfinished,
            KeepsSpace = options.KeepsSpace,
            Cache = new MetadataCache(options.MetadataCacheBytes),
            Secrets = secrets,
            DefaultSecretId = options.Password is null ? null : PasswordSecretId,
            Limits = options.Untrusted ? OpenLimits.Untrusted : OpenLimits.Default,
            MetadataOnly = options.MetadataOnly || options.ForRepair,
            ForRepair = options.ForRepair,
            BackingChain = options.BackingChain,
            ForceShare = options.ForceShare,
            Warn = options.Warn,
        };
        var request = new OpenRequest
        {
            Options = source,
            Format = options.Format,
            Snapshot = options.Snapshot,
            Writable = options.Writable,
            WritableBacking = options.WritableBacking,
            WithoutBacking = options.WithoutBacking,
        };
        return new Disk(await new ImageOpener(context).OpenAsync(request, cancellationToken).ConfigureAwait(false)) { _options = options, _source = named };
    }

    /// <summary>Puts a new, empty qcow2 image over a disk, so that writes go there and the disk stays as it is.</summary>
    /// <param name="below">The disk; still the caller's, to be closed after the overlay.</param>
    /// <param name="path">The new image, which is replaced if it exists. It does not name the disk: it is of no use without it.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <exception cref="BlockException">The image cannot be made.</exception>
    public static async ValueTask<Disk> OpenOverlayAsync(BlockNode below, string path, CancellationToken cancellationToken = default)
    {
        await CreateAsync(path, below.VirtualSize, new Qcow2CreateOptions(), cancellationToken).ConfigureAwait(false);
        var options = new DiskOpenOptions { Format = "qcow2", Writable = true };
        var overlay = await OpenAsync(NodeOptions.ForFile(path), options, cancellationToken).ConfigureAwait(false);
        return new Disk(new ImageNode(((ImageNode)overlay.Node).Driver, new BorrowedNode(below))) { _options = options };
    }

    /// <summary>Names of the disks of a virtual machine (<c>VM.pvm</c>), in the order of their names, for <see cref="DiskOpenOptions.BundleDisk"/>.</summary>
    /// <param name="path">A directory.</param>
    /// <returns>Empty when it is no directory, or a disk itself.</returns>
    /// <exception cref="BlockException">The directory cannot be read.</exception>
    public static IReadOnlyList<string> ListDisks(string path)
    {
        // A name that is none at all is for whoever opens it to say.
        if (!Directory.Exists(path.StartsWith("file:", StringComparison.Ordinal) ? path["file:".Length..] : path)
            || DiskName.Parse(path) is not { Driver: "file" } file || !Directory.Exists(file["filename"]))
        {
            return [];
        }

        var directory = FileDirectory.Open(file["filename"]!);
        return KnownFormats.Registry.Bundles.Select(format => format.DisksIn(directory)).FirstOrDefault(disks => disks.Count > 0) ?? [];
    }

    /// <summary>Makes a new, empty image.</summary>
    /// <param name="path">A local file, which is replaced if it exists, or a block device; for a bundle a directory that is empty or not there.</param>
    /// <param name="size">Bytes of the disk, rounded up to whole sectors; null for the backing file's size.</param>
    /// <param name="options">Format and options: <see cref="Qcow2CreateOptions"/>, <see cref="RawCreateOptions"/>, <see cref="ParallelsBundleCreateOptions"/> or <see cref="NamedCreateOptions"/>.</param>
    /// <param name="cancellationToken">Stops; a file that was made here is removed again.</param>
    /// <exception cref="BlockException">Options are wrong or do not go together, the file is in use (nothing is touched then), or the host could not write
    /// (a file that was made here is removed again).</exception>
    public static async ValueTask CreateAsync(string path, long? size, DiskCreateOptions options, CancellationToken cancellationToken = default)
    {
        var creation = await DiskCreation.PrepareAsync(path, size, options, cancellationToken).ConfigureAwait(false);
        await creation.RunAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Whether the disk was opened for reading only.</summary>
    public bool IsReadOnly => Node.IsReadOnly;

    /// <summary>Writes guest bytes. Durable after <see cref="FlushAsync"/>.</summary>
    /// <param name="offset">Any alignment; the range lies inside the disk.</param>
    /// <param name="buffer">Belongs to the disk until the task completes.</param>
    /// <param name="cancellationToken">Stops between pieces; what was written by then stays.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.ReadOnly"/>, <see cref="BlockErrorKind.NoSpace"/>, <see cref="BlockErrorKind.InvalidRequest"/> and others as met.</exception>
    public ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        Node.WriteAsync(new GuestOffset(offset), buffer, WriteFlags.None, cancellationToken);

    /// <summary>Makes a range read as zeros, giving up its space where the format can.</summary>
    /// <exception cref="BlockException">As for <see cref="WriteAsync"/>.</exception>
    public ValueTask WriteZeroesAsync(long offset, long length, CancellationToken cancellationToken = default) =>
        Node.WriteZeroesAsync(new GuestOffset(offset), length, WriteFlags.MayUnmap, cancellationToken);

    /// <summary>Says that a range is no longer needed.</summary>
    /// <exception cref="BlockException">As for <see cref="WriteAsync"/>.</exception>
    public ValueTask DiscardAsync(long offset, long length, CancellationToken cancellationToken = default) =>
        Node.DiscardAsync(new GuestOffset(offset), length, cancellationToken);

    /// <summary>Makes every completed write durable.</summary>
    /// <exception cref="BlockException">The host could not; nothing is known about writes since the last flush that succeeded.</exception>
    public ValueTask FlushAsync(CancellationToken cancellationToken = default) => Node.FlushAsync(cancellationToken);

    /// <summary>Several disks one after the other as one disk, which owns them.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: together they are larger than 2^63 bytes.</exception>
    public static Disk Concatenate(IReadOnlyList<Disk> disks) =>
        disks.Count == 1 ? disks[0] : new(new ConcatNode(string.Join(" + ", disks.Select(disk => disk.Node.Name)), disks.Select(disk => disk.Node)));

    /// <summary>Part of this disk as a disk of its own, which owns this one.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: the part reaches beyond the disk.</exception>
    public Disk Slice(long offset, long size) => new(new SliceNode(Node, new GuestOffset(offset), size));

    /// <summary>Copies a disk into a new image, holes kept as holes.</summary>
    /// <param name="source">The disk.</param>
    /// <param name="path">Created, or replaced if it exists.</param>
    /// <param name="target">Format and options of the new image; raw without options if null.</param>
    /// <param name="options">How.</param>
    /// <param name="progress">Told often.</param>
    /// <param name="cancellationToken">Stops; <see cref="DiskConvertOptions.Resume"/> goes on.</param>
    /// <exception cref="BlockException">Creating, reading or writing failed. Once copying has begun, after an I/O error or when it is stopped, an unfinished target stays: a new raw file is then called
    /// <c>PATH.unfinished</c>, a new qcow2 image says so and is refused by every reader (one of version 2, which cannot say it, is removed).</exception>
    public static Task ConvertAsync(
        Disk source, string path, DiskCreateOptions? target = null, DiskConvertOptions? options = null, IProgress<CopyProgress>? progress = null,
        CancellationToken cancellationToken = default) => target switch
        {
            null => RawConversion.RunAsync(source.Node, path, default, options ?? new(), progress, cancellationToken),
            RawCreateOptions raw => RawConversion.RunAsync(source.Node, path, raw.Preallocation, options ?? new(), progress, cancellationToken),
            _ => ImageConversion.RunAsync(source.Node, path, target, options ?? new(), progress, cancellationToken),
        };

    /// <summary>Copies what comes out of a stream, up to its end, as it is: into an NBD export or a device, from its start on, or a raw file, which then is as long as that. Runs of zeros become holes.</summary>
    /// <param name="source">Read from where it is; stays open.</param>
    /// <param name="path">A file, a device or an NBD URI. A new file has its name only when it is whole; one that was there is emptied first.</param>
    /// <param name="options">How; null for the defaults.</param>
    /// <param name="progress">Told after each piece.</param>
    /// <param name="cancellationToken">Stops between pieces.</param>
    /// <returns>Bytes that came.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NoSpace"/>: more came than there is room for; others as met.</exception>
    public static Task<long> ConvertStreamAsync(
        Stream source, string path, CopyOptions? options = null, IProgress<CopyProgress>? progress = null, CancellationToken cancellationToken = default) =>
        StreamConversion.RunAsync(source, path, options ?? new(), progress, cancellationToken);

    /// <summary>Reads from <paramref name="offset"/>; less than the buffer only at the end of the disk.</summary>
    /// <returns>Bytes read; 0 at or beyond the end.</returns>
    /// <exception cref="BlockException">The bytes cannot be read.</exception>
    public async ValueTask<int> ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        if (offset >= Size)
        {
            return 0;
        }

        var count = (int)Math.Min(buffer.Length, Size - offset);
        await Node.ReadAsync(new GuestOffset(offset), buffer[..count], cancellationToken).ConfigureAwait(false);
        return count;
    }

    /// <summary>What the ranges of the disk are: data, zero, absent; where the bytes lie; which image of the chain has them.</summary>
    public IAsyncEnumerable<MapEntry> MapAsync(long offset = 0, long length = long.MaxValue, CancellationToken cancellationToken = default) =>
        MapOperation.EnumerateAsync(Node, new GuestOffset(offset), length, cancellationToken);

    /// <summary>A digest of the disk's content, the same for every format that holds the same bytes (docs/digest.md). Zero runs are cheap; all cores work.</summary>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <returns>64 hexadecimal digits.</returns>
    /// <exception cref="BlockException">The disk could not be read.</exception>
    public Task<string> ComputeDigestAsync(IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        DigestOperation.ComputeAsync(Node, progress, cancellationToken);

    /// <summary>What <c>platter info</c> shows.</summary>
    public ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => Node.GetInfoAsync(cancellationToken);

    /// <summary>Verifies the structures of the image, or of every file of a bundle; changes nothing.</summary>
    public ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        Node.CheckAsync(report, progress, cancellationToken);

    /// <summary>Mends the structures of an image that was opened with <see cref="DiskOpenOptions.ForRepair"/>: wholly, or at any error or power cut not at all.
    /// What the guest sees stays. Nothing else can be done with this disk afterwards; open it anew.</summary>
    /// <param name="options">How far it goes, and where the undo file is to be.</param>
    /// <param name="report">Called for every finding, from one thread; afterwards for those that are still there.</param>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops before anything has changed.</param>
    /// <exception cref="BlockException">The image, or its format, cannot be repaired, or the host could not write: nothing was changed. <see cref="BlockErrorKind.InvalidRequest"/>:
    /// the undo file is there already.</exception>
    public ValueTask<RepairReport> RepairAsync(
        DiskRepairOptions options, Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        DiskRepair.RunAsync(Node, options, report, progress, cancellationToken);

    /// <summary>Takes a repair back: the file is byte for byte what it was before, but for guest data written since into clusters that were there already.</summary>
    /// <param name="undoFile">What <see cref="RepairAsync"/> left; it is kept.</param>
    /// <param name="image">The image's file, or null for the name it had then.</param>
    /// <param name="cancellationToken">Stops before anything has changed.</param>
    /// <returns>The image's name.</returns>
    /// <exception cref="BlockException">The undo file is damaged, or the image's tables or its size have changed since the repair: nothing was changed.</exception>
    public static ValueTask<string> UndoRepairAsync(string undoFile, string? image = null, CancellationToken cancellationToken = default) =>
        DiskRepair.UndoAsync(undoFile, image, cancellationToken);

    /// <summary>Finds what the guest has in clusters of the image file: for telling whom a finding of <see cref="CheckAsync"/> concerns.</summary>
    /// <param name="hostOffsets">Offsets in the image file, of clusters, in bytes.</param>
    /// <param name="maxRanges">Guest ranges per cluster at most.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <returns>For each cluster that is found in use, as data or as a table: by which ranges of the disk and of its snapshots.</returns>
    public ValueTask<IReadOnlyDictionary<HostOffset, IReadOnlyList<ClusterUse>>> FindUsersAsync(
        IReadOnlySet<HostOffset> hostOffsets, int maxRanges, CancellationToken cancellationToken = default) =>
        Node.FindUsersAsync(hostOffsets, maxRanges, cancellationToken);

    /// <summary>The dirty ranges of a persistent bitmap.</summary>
    public IAsyncEnumerable<DirtyRange> ReadBitmapAsync(string name, CancellationToken cancellationToken = default) =>
        Node.ReadBitmapAsync(name, cancellationToken);

    /// <summary>A seekable, read-only stream over the disk, for code that wants one. Disposing it leaves the disk open.</summary>
    public Stream AsStream() => new DiskStream(this);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => Node.DisposeAsync();

    private static OpenGate ChooseGate(DiskOpenOptions options) =>
        options.Untrusted ? new ClosedGate("references are not followed in untrusted images")
        : (options.MetadataOnly || options.ForRepair) && !options.BackingChain ? new ParentBundleGate()
        : new LocalFilesGate();

    // Options of a bare storage become options of an image on it, so that the image's own options have a place.
    private static NodeOptions Nested(NodeOptions source)
    {
        var result = new NodeOptions();
        if (source.HasChild("file") || (source.Driver is { } driver && driver is not ("file" or "host_device" or "nbd")))
        {
            foreach (var key in source.Keys)
            {
                result[key] = source[key];
            }
        }
        else
        {
            result.SetChild("file", source);
        }

        return result;
    }

    private sealed class OnePassword(string password, ISecretSource others) : ISecretSource
    {
        private readonly byte[] _bytes = Encoding.UTF8.GetBytes(password);

        public ReadOnlyMemory<byte> Get(string id) => id == PasswordSecretId ? _bytes : others.Get(id);
    }
}
