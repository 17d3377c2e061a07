using Platter.Core.Storages;

namespace Platter.Core.Images;

/// <summary>How a storage is to be opened.</summary>
/// <param name="ForceShare">Do not take or respect image locks (<c>-U</c>).</param>
/// <param name="NamedByImage">An image named it: only regular files, block devices and NBD exports are acceptable, never something that
/// blocks or runs on opening.</param>
/// <param name="Writable">For reading and writing.</param>
public readonly record struct StorageOpenMode(bool ForceShare, bool NamedByImage, bool Writable = false);

/// <summary>Opens storages by their options; the façade knows which kinds there are.</summary>
public abstract class StorageOpener
{
    /// <summary>Opens a storage.</summary>
    /// <param name="options"><c>driver=file,filename=…</c>, <c>driver=nbd,…</c>.</param>
    /// <param name="mode">How.</param>
    /// <param name="cancellationToken">Gives up a slow connection.</param>
    /// <exception cref="Errors.BlockException">It does not exist, is not a file, is locked, is not allowed, or the driver is unknown.</exception>
    public abstract ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default);

    /// <summary>Whether the options name a local directory (a bundle, perhaps).</summary>
    public abstract bool IsDirectory(NodeOptions options);

    /// <summary>Opens a local directory.</summary>
    /// <exception cref="Errors.BlockException">It does not exist or cannot be listed.</exception>
    public abstract ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default);

    /// <summary>Whether <paramref name="driver"/> names a kind of storage (<c>file</c>, <c>nbd</c>) and not an image format.</summary>
    public abstract bool IsStorageDriver(string driver);

    /// <summary>Puts a filter, which the options name, over a disk instead of a storage.</summary>
    /// <param name="options">The filter's; its child is under <c>image</c>.</param>
    /// <param name="disk">The child; taken over, unless this throws.</param>
    /// <exception cref="Errors.BlockException">There is no such filter, or an option is wrong.</exception>
    public virtual Storage OpenFilter(NodeOptions options, Storage disk) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, $"driver '{Errors.SafeText.Clean(options.Driver ?? string.Empty, 64)}' is no filter");
}
