using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;

namespace Platter.Snapshots;

/// <summary>One qcow2 file per state, each the overlay of the one it descends from; the current state has the name that was asked for.</summary>
/// <remarks>The others lie beside it: <c>disk.1.Before the update.qcow2</c> (<see cref="ChainFileName"/>), with the time of the snapshot as the time of the file. Names and times survive a
/// copy too: the header of each has them (<see cref="SnapshotLabel"/>). Each names its backing file without a directory, so that all can be moved together. No file that is there is overwritten but that of the current state.</remarks>
internal sealed class OverlayFiles(string path, DiskCreateOptions create, DiskConvertOptions options) : SnapshotTarget
{
    private readonly List<string> _paths = [];
    private readonly List<string> _made = [];
    private Disk? _disk;

    /// <summary>Every file, in the order of the states.</summary>
    public IReadOnlyList<string> Paths => _paths;

    public override async ValueTask<BlockNode> BeginAsync(DiskState state, int index, long size, CancellationToken cancellationToken)
    {
        var file = state.IsCurrent ? path : ChainFileName.Make(path, index + 1, state.Name);
        if (!File.Exists(file))
        {
            _made.Add(file);
        }
        else if (!state.IsCurrent)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{file}: is there already, and is to be a snapshot's file");
        }

        _paths.Add(file);
        var named = Copy(create.ToNamed());
        if (state.Parent >= 0)
        {
            named["backing_file"] = Relative(_paths[state.Parent]);
            named["backing_fmt"] = create.Format;
        }

        var how = new NamedCreateOptions(create.Format, named) 
        {
            Secrets = create.Secrets,
            Password = create.Password,
            Unfinished = true,
            Label = state.IsCurrent ? null : new(state.Name, state.Date),
        };
        await Disk.CreateAsync(file, size, how, cancellationToken).ConfigureAwait(false);
        _disk = await Disk.OpenAsync(Image(file, create), Opening(create, options) with { AllowUnfinished = true }, cancellationToken).ConfigureAwait(false);
        return _disk.Node;
    }

    public override async ValueTask EndAsync(DiskState state, int index, CancellationToken cancellationToken)
    {
        await ((ImageNode)_disk!.Node).SetUnfinishedAsync(false, cancellationToken).ConfigureAwait(false);
        await DisposeAsync().ConfigureAwait(false);
        if (!state.IsCurrent && state.Date != DiskState.NoDate)
        {
            File.SetLastWriteTimeUtc(_paths[index], state.Date.UtcDateTime);
        }
    }

    public override ValueTask FinishAsync(CancellationToken cancellationToken) => default;

    public override ValueTask<Disk> OpenAsync(int index, CancellationToken cancellationToken) =>
        Disk.OpenAsync(Image(_paths[index], create), Opening(create, options) with { Writable = false }, cancellationToken);

    public override void Remove() => _made.ForEach(File.Delete);

    public override async ValueTask DisposeAsync()
    {
        if (_disk is { } disk)
        {
            _disk = null;
            await disk.DisposeAsync().ConfigureAwait(false);
        }
    }

    // A colon in the name that was asked for would look like a protocol's.
    private static string Relative(string path) => Path.GetFileName(path) is var name && name.Contains(':', StringComparison.Ordinal) ? $"./{name}" : name;

    private static NodeOptions Copy(NodeOptions options)
    {
        var copy = new NodeOptions();
        foreach (var key in options.Keys)
        {
            copy[key] = options[key];
        }

        return copy;
    }
}
