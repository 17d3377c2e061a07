using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;

namespace Platter.Snapshots;

/// <summary>One qcow2 file per state, each the overlay of the one it descends from; the current state has the name that was asked for.</summary>
/// <remarks>The others lie beside it: <c>disk.1.Before the update.qcow2</c> (<see cref="ChainFileName"/>), with the time of the snapshot as the time of the file. Names and times survive a
/// copy too: the header of each has them (<see cref="SnapshotLabel"/>). Each names its backing file without a directory, so that all can be moved together. All of them say that they are unfinished until the last is there.
/// No file that is there is overwritten but that of the current state, and what an interrupted copy left.</remarks>
internal sealed class OverlayFiles(string path, DiskCreateOptions create, DiskConvertOptions options) : SnapshotTarget
{
    private readonly List<string> _paths = [];
    private readonly List<string> _made = [];
    private readonly List<DiskState> _states = [];
    private Disk? _disk;

    /// <summary>Every file, in the order of the states.</summary>
    public IReadOnlyList<string> Paths => _paths;

    public override async ValueTask<BlockNode> BeginAsync(DiskState state, int index, long size, CancellationToken cancellationToken)
    {
        var file = state.IsCurrent ? path : ChainFileName.Make(path, index + 1, state.Name);
        if (!state.IsCurrent && File.Exists(file) && !await SaysUnfinishedAsync(file, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{file}: is there already, and is to be a snapshot's file; delete it if it is of no use, or choose another target");
        }

        var isOurs = !File.Exists(file) || !state.IsCurrent;
        _paths.Add(file);
        _states.Add(state);
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

            // What we made ourselves, and says that it is unfinished.
            BackingUnchecked = state.Parent >= 0 || create.BackingUnchecked,
            Label = state.IsCurrent ? null : new(state.Name, state.Date),
        };
        await Disk.CreateAsync(file, size, how, cancellationToken).ConfigureAwait(false);
        if (isOurs)
        {
            _made.Add(file);
        }

        _disk = await Disk.OpenAsync(Image(file, create), Opening(create, options) with { AllowUnfinished = true }, cancellationToken).ConfigureAwait(false);
        return _disk.Node;
    }

    public override ValueTask EndAsync(DiskState state, int index, CancellationToken cancellationToken) => DisposeAsync();

    // The current state last: as long as it says that it is unfinished, so does the chain.
    public override async ValueTask FinishAsync(CancellationToken cancellationToken)
    {
        foreach (var (file, state) in _paths.Zip(_states).OrderBy(pair => pair.Second.IsCurrent))
        {
            _disk = await Disk.OpenAsync(Image(file, create), Opening(create, options) with { AllowUnfinished = true }, cancellationToken).ConfigureAwait(false);
            await _disk.Node.SetUnfinishedAsync(false, cancellationToken).ConfigureAwait(false);
            await DisposeAsync().ConfigureAwait(false);
            if (!state.IsCurrent && state.Date != DiskState.NoDate)
            {
                File.SetLastWriteTimeUtc(file, state.Date.UtcDateTime);
            }
        }
    }

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

    // With the mark nobody opens it, and whoever goes on with a copy does.
    private async ValueTask<bool> SaysUnfinishedAsync(string file, CancellationToken cancellationToken)
    {
        async ValueTask<BlockErrorKind?> TryAsync(bool allowUnfinished)
        {
            try
            {
                var open = new DiskOpenOptions { Format = create.Format, MetadataOnly = true, AllowUnfinished = allowUnfinished };
                await (await Disk.OpenAsync(Image(file, new NamedCreateOptions(create.Format, new NodeOptions())), open, cancellationToken).ConfigureAwait(false)).DisposeAsync().ConfigureAwait(false);
                return null;
            }
            catch (BlockException e)
            {
                return e.Kind;
            }
        }

        return await TryAsync(allowUnfinished: false).ConfigureAwait(false) == BlockErrorKind.Unsupported && await TryAsync(allowUnfinished: true).ConfigureAwait(false) is null;
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
