using Platter.Core.Graph;
using Platter.Core.Images;

namespace Platter.Snapshots;

/// <summary>Where the states of a disk go, one after the other. Not thread-safe.</summary>
internal abstract class SnapshotTarget : IAsyncDisposable
{
    /// <summary>Makes the disk read as the parent of the state does (zeros without one), with the state's size, ready to be written.</summary>
    /// <param name="state">The state that comes.</param>
    /// <param name="index">Its number; states come in order.</param>
    /// <param name="size">Bytes of the disk in this state.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <returns>The target's node; belongs to this object.</returns>
    public abstract ValueTask<BlockNode> BeginAsync(DiskState state, int index, long size, CancellationToken cancellationToken);

    /// <summary>Keeps what the disk reads now as that state.</summary>
    public abstract ValueTask EndAsync(DiskState state, int index, CancellationToken cancellationToken);

    /// <summary>Everything is there: the target becomes what it is to be, and is closed.</summary>
    public abstract ValueTask FinishAsync(CancellationToken cancellationToken);

    /// <summary>Opens a state of the finished target for reading.</summary>
    public abstract ValueTask<Disk> OpenAsync(int index, CancellationToken cancellationToken);

    /// <summary>Removes what was made, after an error: part of a copy would look like a whole one.</summary>
    public abstract void Remove();

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();

    /// <summary>Options for opening an image that was made with these.</summary>
    protected static NodeOptions Image(string path, DiskCreateOptions create)
    {
        var image = new NodeOptions { ["driver"] = create.Format };
        image.SetChild("file", DiskName.Parse(path));
        if (create.ToNamed()["encrypt.key-secret"] is { } secret)
        {
            image["encrypt.key-secret"] = secret;
        }

        return image;
    }

    /// <summary>How such an image is opened.</summary>
    protected static DiskOpenOptions Opening(DiskCreateOptions create, DiskConvertOptions options) => new()
    {
        Writable = true,
        Format = create.Format,
        Secrets = create.Secrets,
        Password = create.Password,
        CompressionLevel = options.CompressionLevel,
    };
}
