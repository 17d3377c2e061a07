using System.Globalization;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;

namespace Platter.Snapshots;

/// <summary>One qcow2 file per state, each the overlay of the one it descends from; the current state has the name that was asked for.</summary>
/// <remarks>The others lie beside it: <c>disk.1.Before the update.qcow2</c>, with the time of the snapshot as the time of the file. Each names its backing file without a directory,
/// so that all can be moved together. No file that is there is overwritten but that of the current state.</remarks>
internal sealed class OverlayFiles(string path, DiskCreateOptions create, DiskConvertOptions options) : SnapshotTarget
{
    private const int MaxNameChars = 60;

    private readonly List<string> _paths = [];
    private readonly List<string> _made = [];
    private Disk? _disk;

    /// <summary>Every file, in the order of the states.</summary>
    public IReadOnlyList<string> Paths => _paths;

    public override async ValueTask<BlockNode> BeginAsync(DiskState state, int index, long size, CancellationToken cancellationToken)
    {
        var file = state.IsCurrent ? path : NameOf(state, index);
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
            named["backing_file"] = Path.GetFileName(_paths[state.Parent]);
            named["backing_fmt"] = create.Format;
        }

        var how = new NamedCreateOptions(create.Format, named) { Secrets = create.Secrets, Password = create.Password };
        await Disk.CreateAsync(file, size, how, cancellationToken).ConfigureAwait(false);
        _disk = await Disk.OpenAsync(Image(file, create), Opening(create, options), cancellationToken).ConfigureAwait(false);
        await ((ImageNode)_disk.Node).SetUnfinishedAsync(true, cancellationToken).ConfigureAwait(false);
        return _disk.Node;
    }

    public override async ValueTask EndAsync(DiskState state, int index, CancellationToken cancellationToken)
    {
        await ((ImageNode)_disk!.Node).SetUnfinishedAsync(false, cancellationToken).ConfigureAwait(false);
        await DisposeAsync().ConfigureAwait(false);
        if (!state.IsCurrent)
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

    private static NodeOptions Copy(NodeOptions options)
    {
        var copy = new NodeOptions();
        foreach (var key in options.Keys)
        {
            copy[key] = options[key];
        }

        return copy;
    }

    // What a file system, a shell or a backing file's name could stumble over becomes '_'.
    private string NameOf(DiskState state, int index)
    {
        var name = new StringBuilder();
        foreach (var c in state.Name.EnumerateRunes())
        {
            name.Append(Rune.IsLetterOrDigit(c) || c.Value is ' ' or '-' or '_' or '.' ? c.ToString() : "_");
            if (name.Length >= MaxNameChars)
            {
                break;
            }
        }

        return string.Create(
            CultureInfo.InvariantCulture,
            $"{Path.Combine(Path.GetDirectoryName(path) ?? string.Empty, Path.GetFileNameWithoutExtension(path))}.{index + 1}.{name.ToString().Trim(' ', '.')}{Path.GetExtension(path)}");
    }
}
