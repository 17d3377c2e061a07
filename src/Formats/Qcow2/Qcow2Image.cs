using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Compression;
using Platter.Formats.Qcow2.Mapping;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2;

/// <summary>An open qcow2 image, or one of its snapshots: hands each question to the room that knows the answer.</summary>
internal sealed class Qcow2Image : ImageDriver
{
    private readonly Storage? _dataFile;
    private readonly Qcow2Metadata _metadata;
    private readonly ClusterMapper _mapper;
    private readonly ClusterDecoder _decoder;

    public Qcow2Image(Storage storage, Storage? dataFile, Qcow2Metadata metadata, TableReader reader, OpenContext context)
    {
        Storage = storage;
        _dataFile = dataFile;
        _metadata = metadata;
        VirtualSize = metadata.Header.VirtualSize;
        Backing = Qcow2Opening.BackingReference(storage, metadata);
        References = [.. new[] { Backing, Qcow2Opening.DataFileReference(storage, metadata) }.OfType<ImageReference>()];
        var l1 = new L1Table(reader, context.Cache, new((long)metadata.Header.L1TableOffset), metadata.Header.L1Size);
        _mapper = new(l1, reader, context.Cache, metadata.Geometry, metadata.HasDataFile);
        _decoder = new(storage, metadata.Geometry, metadata.Header.CompressionType, context.Codecs, context.Cache);
    }

    /// <inheritdoc/>
    public override string FormatName => "qcow2";

    /// <inheritdoc/>
    public override Storage Storage { get; }

    /// <inheritdoc/>
    public override long VirtualSize { get; }

    /// <inheritdoc/>
    public override long ClusterSize => _metadata.Geometry.ClusterSize;

    /// <inheritdoc/>
    public override ImageReference? Backing { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<ImageReference> References { get; }

    /// <inheritdoc/>
    public override bool SupportsBacking => true;

    /// <inheritdoc/>
    public override ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        var run = _mapper.FindAsync(at, Math.Min(length, VirtualSize - at.Value), cancellationToken);
        return run.IsCompletedSuccessfully ? new(ToExtent(at, run.Result)) : AwaitedAsync(at, run);

        async ValueTask<Extent> AwaitedAsync(GuestOffset from, ValueTask<ClusterRun> pending) =>
            ToExtent(from, await pending.ConfigureAwait(false));
    }

    /// <inheritdoc/>
    public override ValueTask ReadEncodedAsync(
        Extent extent, GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var cluster = new GuestOffset(at.Value & ~_metadata.Geometry.ClusterMask);
        return _decoder.ReadAsync(
            cluster, extent.HostOffset, (int)extent.EncodedLength, (int)(at - cluster), buffer, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        if (_dataFile is not null)
        {
            await _dataFile.DisposeAsync().ConfigureAwait(false);
        }

        await base.DisposeAsync().ConfigureAwait(false);
    }

    private Storage DataStorage => !_metadata.HasDataFile ? Storage : _dataFile ?? throw new BlockException(
        BlockErrorKind.InvalidRequest, $"{Storage.Name}: was opened for its metadata only; its data file is not open");

    private Extent ToExtent(GuestOffset at, in ClusterRun run) => run.Kind switch
    {
        ClusterKind.Data => new()
        {
            Offset = at, Length = run.Length, Kind = ExtentKind.Data, Storage = DataStorage, HostOffset = run.HostOffset,
        },
        ClusterKind.Compressed => new()
        {
            Offset = at, Length = run.Length, Kind = ExtentKind.Encoded, Flags = ExtentFlags.Compressed, Storage = Storage,
            HostOffset = run.HostOffset, EncodedLength = run.CompressedLength, Driver = this,
        },
        ClusterKind.ZeroAllocated => new()
        {
            Offset = at, Length = run.Length, Kind = ExtentKind.Zero, Storage = DataStorage, HostOffset = run.HostOffset,
        },
        ClusterKind.ZeroPlain => new() { Offset = at, Length = run.Length, Kind = ExtentKind.Zero },

        // The host offset of an unallocated subcluster is where it would be written: worth knowing, nothing to read.
        ClusterKind.UnallocatedInCluster => new()
        {
            Offset = at, Length = run.Length, Kind = ExtentKind.Unallocated, Storage = DataStorage, HostOffset = run.HostOffset,
        },
        _ => new() { Offset = at, Length = run.Length, Kind = ExtentKind.Unallocated },
    };
}
