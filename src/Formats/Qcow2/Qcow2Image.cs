using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Bitmaps;
using Platter.Formats.Qcow2.Check;
using Platter.Formats.Qcow2.Compression;
using Platter.Formats.Qcow2.Mapping;
using Platter.Formats.Qcow2.Writing;
using Platter.Formats.Qcow2.Metadata;
using Platter.Formats.Qcow2.Snapshots;

namespace Platter.Formats.Qcow2;

/// <summary>An open qcow2 image, or one of its snapshots: hands each question to the room that knows the answer.</summary>
internal sealed class Qcow2Image : ImageDriver
{
    private readonly Storage? _dataFile;
    private readonly GuestCipher? _cipher;
    private readonly Qcow2Metadata _metadata;
    private readonly TableReader _reader;
    private readonly OpenContext _context;
    private readonly ClusterMapper _mapper;
    private readonly ClusterDecoder _decoder;
    private readonly PreallocationProbe _preallocation;
    private readonly bool _ownsStorages;
    private readonly Qcow2Writer? _writer;
    private readonly long _virtualSize;
    private readonly IReadOnlyList<SnapshotInfo> _snapshots;
    private readonly IReadOnlyList<BitmapInfo> _bitmaps;
    private long _endOfFile;
    private int _warnedOfEnd;

    /// <summary>The image as it is now; owns both storages.</summary>
    public Qcow2Image(
        Storage storage, Storage? dataFile, GuestCipher? cipher, Qcow2Metadata metadata, TableReader reader, OpenContext context, Qcow2Writer? writer = null)
    {
        _writer = writer;
        Storage = storage;
        _dataFile = dataFile;
        _cipher = cipher;
        _metadata = cipher?.Luks is { } luks ? metadata with { Luks = luks } : metadata;
        _reader = reader;
        _context = context;
        _ownsStorages = true;
        _virtualSize = metadata.Header.VirtualSize;
        Backing = Qcow2Opening.BackingReference(storage, metadata);
        References = [.. new[] { Backing, Qcow2Opening.DataFileReference(storage, metadata) }.OfType<ImageReference>()];
        _snapshots = [.. metadata.Snapshots.Select(s => SnapshotTable.ToInfo(s, VirtualSize))];
        _bitmaps = [.. metadata.Bitmaps.Select(BitmapDirectory.ToInfo)];
        _mapper = MapperFor(new((long)metadata.Header.L1TableOffset), metadata.Header.L1Size);
        _decoder = new(storage, metadata.Geometry, metadata.Header.CompressionType, context.Codecs, context.Cache, isKept: writer is null);
        _preallocation = new(storage, reader, metadata.Header, metadata.Geometry);
    }

    // A snapshot: another L1 table over the same clusters.
    private Qcow2Image(Qcow2Image image, HostOffset l1, long l1Entries, long virtualSize)
    {
        Storage = image.Storage;
        _dataFile = image._dataFile;
        _cipher = image._cipher;
        _metadata = image._metadata;
        _reader = image._reader;
        _context = image._context;
        _virtualSize = virtualSize;
        Backing = image.Backing;
        References = image.References;
        _snapshots = image.Snapshots;
        _bitmaps = [];
        _mapper = MapperFor(l1, l1Entries);
        _decoder = image._decoder;
        _preallocation = image._preallocation;
    }

    /// <inheritdoc/>
    public override string FormatName => "qcow2";

    /// <inheritdoc/>
    public override Storage Storage { get; }

    /// <inheritdoc/>
    public override long VirtualSize => _writer?.VirtualSize ?? _virtualSize;

    /// <inheritdoc/>
    public override ImageWriter? Writer => _writer;

    /// <inheritdoc/>
    public override long ClusterSize => _metadata.Geometry.ClusterSize;

    /// <inheritdoc/>
    public override ImageReference? Backing { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<ImageReference> References { get; }

    /// <inheritdoc/>
    public override IEnumerable<Storage> Storages => _dataFile is null ? [Storage] : [Storage, _dataFile];

    /// <inheritdoc/>
    public override bool SupportsBacking => true;

    /// <inheritdoc/>
    public override IReadOnlyList<SnapshotInfo> Snapshots => _writer?.Snapshots ?? _snapshots;

    /// <inheritdoc/>
    /// <remarks>They belong to the current state of the disk: a snapshot has none.</remarks>
    public override IReadOnlyList<BitmapInfo> Bitmaps => _writer?.Bitmaps ?? _bitmaps;

    /// <summary>Whether an image of this version can have bitmaps at all.</summary>
    internal bool CanHaveBitmaps => _metadata.Header.Version >= 3;

    /// <inheritdoc/>
    public override ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        var wanted = Math.Min(length, VirtualSize - at.Value);
        var pending = _writer is null ? _mapper.FindAsync(at, wanted, cancellationToken) : _writer.FindAsync(at, wanted, cancellationToken);
        if (!pending.IsCompletedSuccessfully)
        {
            return AwaitedAsync(at, pending, cancellationToken);
        }

        var run = pending.Result;
        return run.Kind == ClusterKind.Data && AsksForHoles
            ? AwaitedAsync(at, new(run), cancellationToken)
            : new(ToExtent(at, run));
    }

    /// <inheritdoc/>
    public override ValueTask ReadEncodedAsync(
        Extent extent, GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if ((extent.Flags & ExtentFlags.Encrypted) != 0)
        {
            return (_cipher ?? throw MetadataOnly("its password is not known")).ReadAsync(extent, at, buffer, cancellationToken);
        }

        var cluster = new GuestOffset(at.Value & ~_metadata.Geometry.ClusterMask);
        return _decoder.ReadAsync(
            cluster, extent.HostOffset, (int)extent.EncodedLength, (int)(at - cluster), buffer, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) =>
        new(Qcow2Info.Describe(Storage, _writer is null ? _metadata : _metadata with { Bitmaps = _writer.BitmapEntries }, Snapshots));

    /// <inheritdoc/>
    public override ValueTask<ImageDriver> OpenSnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default)
    {
        if (_writer is not null)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{Storage.Name}: a snapshot is opened from an image that is open for reading");
        }

        var found = selector.FindIn(Snapshots)
            ?? throw new BlockException(BlockErrorKind.NotFound, $"{Storage.Name}: no snapshot '{SafeText.Clean(selector.ToString(), 256)}'");
        var index = 0;
        while (!ReferenceEquals(Snapshots[index], found))
        {
            index++;
        }

        var entry = _metadata.Snapshots[index];
        var size = SnapshotTable.Validate(entry, found.Name, _metadata.Geometry, Storage.Name, _metadata.Header.VirtualSize);
        return new(new Qcow2Image(this, new((long)entry.L1TableOffset), entry.L1Size, size));
    }

    /// <inheritdoc/>
    public override IAsyncEnumerable<DirtyRange> ReadBitmapAsync(string name, CancellationToken cancellationToken = default)
    {
        if (_writer is not null)
        {
            return _writer.ReadBitmap(name, cancellationToken) ?? base.ReadBitmapAsync(name, cancellationToken);
        }

        var bitmap = Bitmaps.Count == 0 ? null : _metadata.Bitmaps.FirstOrDefault(b => b.Name == name);
        if (bitmap is null)
        {
            return base.ReadBitmapAsync(name, cancellationToken);
        }

        new StoredBitmap(bitmap).ThrowIfUnusable(Storage.Name);
        return BitmapReader.ReadAsync(_reader, _metadata.Geometry, bitmap, VirtualSize, cancellationToken);
    }

    /// <inheritdoc/>
    /// <remarks>A snapshot's driver checks the whole image, as the image's own does.</remarks>
    public override ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        new Qcow2Check(Storage, _metadata, report, progress).RunAsync(cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<RepairReport> RepairAsync(
        RepairOptions options, Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        _writer is null && !Storage.IsReadOnly
            ? await new Qcow2Repair(
                await DeviceEnd.OfAsync(Storage, _metadata, cancellationToken).ConfigureAwait(false), _metadata, options, report, progress)
                .RunAsync(cancellationToken).ConfigureAwait(false)
            : throw new BlockException(BlockErrorKind.InvalidRequest, $"{Storage.Name}: was not opened for repair");

    /// <inheritdoc/>
    public override ValueTask<IReadOnlyDictionary<HostOffset, IReadOnlyList<ClusterUse>>> FindUsersAsync(
        IReadOnlySet<HostOffset> places, int maxRanges, CancellationToken cancellationToken = default) =>
        new UserSearch(Storage, _metadata, places, maxRanges).RunAsync(cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        if (!_ownsStorages)
        {
            return;
        }

        if (_dataFile is not null)
        {
            await _dataFile.DisposeAsync().ConfigureAwait(false);
        }

        await base.DisposeAsync().ConfigureAwait(false);
    }

    private Storage DataStorage => !_metadata.HasDataFile ? Storage : _dataFile ?? throw MetadataOnly("its data file is not open");

    // While somebody writes, no question about the whole file has an answer that stays true.
    private bool AsksForHoles => _writer is null && !IsEncrypted && _preallocation.Answer is null;

    private bool IsEncrypted => _metadata.Header.CryptMethod != Layout.CryptMethod.None;

    private BlockException MetadataOnly(string reason) =>
        new(BlockErrorKind.InvalidRequest, $"{Storage.Name}: was opened for its metadata only; {reason}");

    private ClusterMapper MapperFor(HostOffset l1, long entries) =>
        new(new L1Table(_reader, _context.Cache, l1, entries), _reader, _context.Cache, _metadata.Geometry, _metadata.HasDataFile);

    private async ValueTask<Extent> AwaitedAsync(GuestOffset at, ValueTask<ClusterRun> pending, CancellationToken cancellationToken)
    {
        var run = await pending.ConfigureAwait(false);
        if (run.Kind == ClusterKind.Data && AsksForHoles)
        {
            await _preallocation.FindAsync(cancellationToken).ConfigureAwait(false);
        }

        return ToExtent(at, run);
    }

    // Like everybody else we read what the file does not have as zeros, but not silently: it may have been cut off.
    private void WarnIfBeyondTheEnd(in ClusterRun run)
    {
        var lastCluster = (run.HostOffset.Value + run.Length - 1) & ~_metadata.Geometry.ClusterMask;
        if (lastCluster < Volatile.Read(ref _endOfFile) || _metadata.HasDataFile)
        {
            return;
        }

        // The file may have grown since.
        var end = Storage.Length;
        Volatile.Write(ref _endOfFile, end);
        if (lastCluster >= end && Interlocked.Exchange(ref _warnedOfEnd, 1) == 0)
        {
            _context.Warn($"{Storage.Name}: the file ends at 0x{end:x}, and data is said to be at 0x{lastCluster:x}: what is missing reads as zeros");
        }
    }

    private Extent ToExtent(GuestOffset at, in ClusterRun run)
    {
        if (run.Kind == ClusterKind.Data)
        {
            WarnIfBeyondTheEnd(run);
        }

        return Describe(at, run);
    }

    private Extent Describe(GuestOffset at, in ClusterRun run) => run.Kind switch
    {
        ClusterKind.Data when IsEncrypted => new()
        {
            Offset = at, Length = run.Length, Kind = ExtentKind.Encoded, Flags = ExtentFlags.Encrypted, Storage = DataStorage,
            HostOffset = run.HostOffset, Driver = this,
        },
        ClusterKind.Data => new()
        {
            Offset = at, Length = run.Length, Kind = ExtentKind.Data, Storage = DataStorage, HostOffset = run.HostOffset,
            Flags = _preallocation.Answer == true ? ExtentFlags.MayHaveHoles : ExtentFlags.None,
        },
        ClusterKind.Compressed => new()
        {
            Offset = at, Length = run.Length, Kind = ExtentKind.Encoded, Flags = ExtentFlags.Compressed, Storage = Storage,
            HostOffset = run.HostOffset, EncodedLength = run.CompressedLength, Driver = this,
        },

        // In an encrypted image the host offset of zeros is worth nothing: what is there cannot be read as it is.
        ClusterKind.ZeroAllocated when !IsEncrypted => new()
        {
            Offset = at, Length = run.Length, Kind = ExtentKind.Zero, Storage = DataStorage, HostOffset = run.HostOffset,
        },
        ClusterKind.ZeroPlain or ClusterKind.ZeroAllocated => new() { Offset = at, Length = run.Length, Kind = ExtentKind.Zero },

        // The host offset of an unallocated subcluster is where it would be written: worth knowing, nothing to read.
        ClusterKind.UnallocatedInCluster when !IsEncrypted => new()
        {
            Offset = at, Length = run.Length, Kind = ExtentKind.Unallocated, Storage = DataStorage, HostOffset = run.HostOffset,
        },
        _ => new() { Offset = at, Length = run.Length, Kind = ExtentKind.Unallocated },
    };
}
