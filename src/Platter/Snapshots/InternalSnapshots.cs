using Platter.Core.Graph;
using Platter.Core.Images;

namespace Platter.Snapshots;

/// <summary>One qcow2 image, or one bundle, with the states as its snapshots.</summary>
/// <remarks>It says that it is unfinished until the last state is there. Snapshots share the clusters they have in common, so each is stored once.</remarks>
internal sealed class InternalSnapshots(string path, DiskCreateOptions create, DiskConvertOptions options) : SnapshotTarget
{
    private readonly Dictionary<int, string> _ids = [];
    private Disk? _disk;
    private int _position = -1;
    private bool _isNew;

    private BlockNode Node => _disk!.Node;

    public override async ValueTask<BlockNode> BeginAsync(DiskState state, int index, long size, CancellationToken cancellationToken)
    {
        if (_disk is null)
        {
            // An unfinished bundle is replaced, like any file.
            var isNew = !Path.Exists(path) || Directory.Exists(path);
            await Disk.CreateAsync(path, size, create with { Unfinished = true }, cancellationToken).ConfigureAwait(false);
            _isNew = isNew;
            _disk = await Disk.OpenAsync(Image(path, create), Opening(create, options) with { AllowUnfinished = true }, cancellationToken).ConfigureAwait(false);
            await Node.SetUnfinishedAsync(true, cancellationToken).ConfigureAwait(false);
        }
        else if (state.Parent != _position)
        {
            await Node.ApplySnapshotAsync(new SnapshotSelector(_ids[state.Parent], null, null), cancellationToken).ConfigureAwait(false);
        }

        if (Node.VirtualSize != size)
        {
            await Node.ResizeAsync(size, cancellationToken).ConfigureAwait(false);
        }

        return Node;
    }

    public override async ValueTask EndAsync(DiskState state, int index, CancellationToken cancellationToken)
    {
        _position = index;
        if (!state.IsCurrent)
        {
            await Node.CreateSnapshotAsync(state.Name, state.Date, cancellationToken).ConfigureAwait(false);
            _ids[index] = Node.HasSnapshotTree ? Node.ParentSnapshotId! : Node.Snapshots[^1].Id;
        }
    }

    public override async ValueTask FinishAsync(CancellationToken cancellationToken)
    {
        await Node.SetUnfinishedAsync(false, cancellationToken).ConfigureAwait(false);
        await DisposeAsync().ConfigureAwait(false);
    }

    public override ValueTask<Disk> OpenAsync(int index, CancellationToken cancellationToken) => Disk.OpenAsync(
        Image(path, create),
        Opening(create, options) with { Writable = false, Snapshot = _ids.TryGetValue(index, out var id) ? new(id, null, null) : null },
        cancellationToken);

    public override void Remove()
    {
        if (_isNew && Directory.Exists(path))
        {
            Directory.Delete(path, recursive: true);
        }
        else if (_isNew)
        {
            File.Delete(path);
        }
    }

    public override async ValueTask DisposeAsync()
    {
        if (_disk is { } disk)
        {
            _disk = null;
            await disk.DisposeAsync().ConfigureAwait(false);
        }
    }
}
