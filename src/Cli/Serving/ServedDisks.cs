using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Nbd.Server;
using Platter.Operations.Partitions;

namespace Platter.Cli.Serving;

/// <summary>The disks behind the exports of a server, open until they are disposed, after the server has stopped.</summary>
internal sealed class ServedDisks : IAsyncDisposable
{
    private readonly List<Disk> _disks = [];
    private readonly Dictionary<string, NbdExport> _exports = [];

    /// <summary>What there is to serve, by name.</summary>
    public IReadOnlyDictionary<string, NbdExport> Exports => _exports;

    /// <summary>Opens everything, or nothing.</summary>
    /// <exception cref="BlockException">A disk cannot be opened, or has no such bitmap, layer or partition.</exception>
    /// <exception cref="UsageException">Two exports have one name, or a part does not lie inside its disk.</exception>
    public static async ValueTask<ServedDisks> OpenAsync(
        IReadOnlyList<ExportSettings> settings, ImageArguments images, CancellationToken cancellationToken)
    {
        var result = new ServedDisks();
        try
        {
            foreach (var export in settings)
            {
                await result.AddAsync(export, images, cancellationToken).ConfigureAwait(false);
            }

            return result;
        }
        catch
        {
            await result.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        foreach (var disk in _disks)
        {
            await disk.DisposeAsync().ConfigureAwait(false);
        }
    }

    private async ValueTask AddAsync(ExportSettings settings, ImageArguments images, CancellationToken cancellationToken)
    {
        var disk = await OpenAsync(settings, images, settings.Snapshot, cancellationToken).ConfigureAwait(false);
        var node = LayerOf(disk.Node, settings);
        if (settings.WithLayers)
        {
            var number = 0;
            for (var below = node.Backing; below is not null; below = below.Backing)
            {
                Add($"{settings.Name}~{++number}", new NbdExport(below, settings.Description));
            }
        }

        var bitmaps = new List<NbdBitmap>();
        foreach (var name in settings.Bitmaps)
        {
            bitmaps.Add(await NbdBitmap.ReadAsync(node, name, cancellationToken).ConfigureAwait(false));
        }

        if (settings.WithSnapshots)
        {
            await AddSnapshotsAsync(node, settings, images, cancellationToken).ConfigureAwait(false);
        }

        if (settings.Overlay)
        {
            node = await WithOverlayAsync(node, cancellationToken).ConfigureAwait(false);
        }

        Add(settings.Name, new NbdExport(await PartOfAsync(node, settings, cancellationToken).ConfigureAwait(false), settings.Description)
        {
            IsWritable = settings.Writable || settings.Overlay,
            TellsDepth = settings.Depth,
            Bitmaps = bitmaps,
            Unmaps = settings.Unmaps,
            DetectZeroes = settings.DetectZeroes,
            WritesThrough = settings.Cache is "writethrough" or "directsync",
            IgnoresFlush = settings.Cache == "unsafe" || settings.Overlay,
        });
    }

    private async ValueTask AddSnapshotsAsync(BlockNode node, ExportSettings settings, ImageArguments images, CancellationToken cancellationToken)
    {
        foreach (var snapshot in node.Snapshots)
        {
            var disk = await OpenAsync(settings, images, $"snapshot.id={snapshot.Id.Replace(",", ",,", StringComparison.Ordinal)}", cancellationToken).ConfigureAwait(false);
            var name = $"{settings.Name}@{snapshot.Name}";
            Add(_exports.ContainsKey(name) ? $"{settings.Name}@{snapshot.Id}" : name, new NbdExport(disk.Node, settings.Description));
        }
    }

    private async ValueTask<Disk> OpenAsync(ExportSettings settings, ImageArguments images, string? snapshot, CancellationToken cancellationToken)
    {
        var disk = await images.OpenAsync(
            settings.Image,
            options => options with
            {
                Format = settings.Format ?? options.Format,
                BundleDisk = settings.Disk ?? options.BundleDisk,
                Snapshot = snapshot is null ? options.Snapshot : SnapshotSelector.Parse(snapshot),
                Writable = settings.Writable && !settings.Overlay,
                BypassHostCache = settings.BypassesHostCache,
            },
            cancellationToken).ConfigureAwait(false);
        _disks.Add(disk);
        return disk;
    }

    private async ValueTask<BlockNode> WithOverlayAsync(BlockNode node, CancellationToken cancellationToken)
    {
        var path = Path.Combine(Path.GetTempPath(), $"platter-overlay-{Guid.NewGuid():N}.qcow2");
        try
        {
            var disk = await Disk.OpenOverlayAsync(node, path, cancellationToken).ConfigureAwait(false);
            _disks.Insert(0, disk);
            return disk.Node;
        }
        finally
        {
            // It stays usable while it is open, and no crash can leave it behind.
            File.Delete(path);
        }
    }

    private void Add(string name, NbdExport export)
    {
        if (!_exports.TryAdd(ExportSettings.RequireShort(name, "name"), export))
        {
            throw new UsageException($"two exports are called '{SafeText.Clean(name, 64)}': give them names with --export name=NAME,image=FILE");
        }
    }

    private static BlockNode LayerOf(BlockNode node, ExportSettings settings)
    {
        var top = node;
        for (var i = 0; i < settings.Layer; i++)
        {
            node = node.Backing ?? throw new BlockException(
                BlockErrorKind.NotFound, $"{top.Name}: there is no layer {settings.Layer}: the chain has {i + 1} image{(i == 0 ? string.Empty : "s")}");
        }

        return node;
    }

    private static async ValueTask<BlockNode> PartOfAsync(BlockNode node, ExportSettings settings, CancellationToken cancellationToken)
    {
        if (settings.Partition is { } number)
        {
            var partitions = await PartitionTable.ReadAsync(node, cancellationToken).ConfigureAwait(false);
            foreach (var partition in partitions)
            {
                if (partition.Number == number)
                {
                    return new SliceNode(node, partition.Offset, partition.Size);
                }
            }

            var known = partitions.Count == 0 ? "none" : string.Join(", ", partitions.Select(partition => partition.Number));
            throw new BlockException(BlockErrorKind.NotFound, $"{node.Name}: there is no partition {number}; there are: {known}");
        }

        if (settings.Offset > node.VirtualSize || (settings.Size is { } size && size > node.VirtualSize - settings.Offset))
        {
            throw new UsageException(settings.Offset > node.VirtualSize
                ? $"Invalid offset '{settings.Offset}': the disk has {node.VirtualSize} bytes"
                : $"Invalid size '{settings.Size}': the disk has {node.VirtualSize - settings.Offset} bytes from the offset on");
        }

        return settings.Offset == 0 && settings.Size is null
            ? node
            : new SliceNode(node, new(settings.Offset), settings.Size ?? node.VirtualSize - settings.Offset);
    }
}
