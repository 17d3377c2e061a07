using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Cli.Io;

/// <summary>How an io session opens a disk.</summary>
internal sealed record IoOpening
{
    /// <summary>As typed, for messages.</summary>
    public required string Name { get; init; }

    /// <summary>What to open.</summary>
    public required NodeOptions Source { get; init; }

    /// <summary>The declared format, or null to probe.</summary>
    public string? Format { get; init; }

    /// <summary>For reading only.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Writes go to a temporary overlay.</summary>
    public bool Overlay { get; init; }

    /// <summary>What is read from the backing chain is kept in the image.</summary>
    public bool CopiesOnRead { get; init; }

    /// <summary>Ignore image locks.</summary>
    public bool ForceShare { get; init; }

    /// <summary>Every write is durable when it has ended: what qemu-io does unless told otherwise.</summary>
    public bool WritesThrough { get; init; } = true;

    /// <summary>Discards do nothing.</summary>
    public bool IgnoresDiscards { get; init; }
}

/// <summary>The disk that an io session has open.</summary>
internal sealed class IoDisk : IAsyncDisposable
{
    private readonly Disk _disk;
    private readonly string? _overlayPath;

    private IoDisk(IoOpening opening, Disk disk, string? overlayPath)
    {
        Opening = opening;
        _disk = disk;
        _overlayPath = overlayPath;
    }

    /// <summary>How it was opened.</summary>
    public IoOpening Opening { get; }

    /// <summary>The disk.</summary>
    public BlockNode Node => _disk.Node;

    /// <summary>Opens one.</summary>
    /// <param name="opening">How.</param>
    /// <param name="images">What the command line says about secrets and the like.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException">It cannot be opened.</exception>
    public static async ValueTask<IoDisk> OpenAsync(IoOpening opening, ImageArguments images, CancellationToken cancellationToken)
    {
        if (opening is { ForceShare: true, ReadOnly: false })
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "force-share=on can only be used with read-only images");
        }

        if (opening is { CopiesOnRead: true, ReadOnly: true })
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "Can't use copy-on-read on read-only device");
        }

        if (opening is { Overlay: true, ReadOnly: false })
        {
            return await OpenOverlayAsync(opening, images, cancellationToken).ConfigureAwait(false);
        }

        var disk = await images.OpenAsync(opening.Name, opening.Source, options => With(options, opening, !opening.ReadOnly), cancellationToken).ConfigureAwait(false);
        return new(opening, disk, null);
    }

    /// <summary>Reads, and keeps what was read if so asked.</summary>
    public async ValueTask ReadAsync(GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        await Node.ReadAsync(at, buffer, cancellationToken).ConfigureAwait(false);
        if (Opening.CopiesOnRead)
        {
            await KeepAsync(at, at + buffer.Length, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        try
        {
            await _disk.DisposeAsync().ConfigureAwait(false);
        }
        finally
        {
            if (_overlayPath is not null)
            {
                File.Delete(_overlayPath);
            }
        }
    }

    private static DiskOpenOptions With(DiskOpenOptions options, IoOpening opening, bool writable) =>
        options with { Format = opening.Format, Writable = writable, ForceShare = opening.ForceShare, KeepsSpace = opening.IgnoresDiscards };

    private static async ValueTask<IoDisk> OpenOverlayAsync(IoOpening opening, ImageArguments images, CancellationToken cancellationToken)
    {
        var source = opening.Source;
        long size;
        string format;
        var below = await images.OpenAsync(opening.Name, source, options => With(options, opening, writable: false), cancellationToken).ConfigureAwait(false);
        await using (below.ConfigureAwait(false))
        {
            (size, format) = (below.Size, below.Format);
        }

        var path = Path.Combine(Path.GetTempPath(), $"platter-io-{Guid.NewGuid():N}.qcow2");
        try
        {
            await Disk.CreateAsync(path, size, new Qcow2CreateOptions(), cancellationToken).ConfigureAwait(false);
            var overlay = new NodeOptions { ["driver"] = "qcow2" };
            overlay.SetChild("file", NodeOptions.ForFile(path));
            if (source.HasChild("file"))
            {
                overlay.SetChild("backing", source);
            }
            else
            {
                overlay.SetChild("backing.file", source);
            }

            overlay["backing.driver"] = format;
            var disk = await images.OpenAsync(
                opening.Name, overlay, options => With(options, opening, writable: true) with { Format = null }, cancellationToken).ConfigureAwait(false);
            return new(opening, disk, path);
        }
        catch
        {
            File.Delete(path);
            throw;
        }
    }

    // The rest of the clusters is not fetched: a write fills what is missing around it.
    private async ValueTask KeepAsync(GuestOffset at, GuestOffset end, CancellationToken cancellationToken)
    {
        while (at < end)
        {
            var extent = await Node.MapAsync(at, end - at, MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
            if (extent.Depth > 0)
            {
                var bytes = new byte[(int)Math.Min(extent.Length, 1 << 20)];
                await Node.ReadAsync(at, bytes, cancellationToken).ConfigureAwait(false);
                await Node.WriteAsync(at, bytes, WriteFlags.None, cancellationToken).ConfigureAwait(false);
                at += bytes.Length;
                continue;
            }

            at = extent.End;
        }
    }
}
