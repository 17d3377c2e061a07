using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Operations.Copy;

namespace Platter.Snapshots;

/// <summary>Every state of a disk, each behind the one it is best copied on top of, the current one last.</summary>
internal static class SnapshotLineage
{
    // Every pair of more snapshots is not compared: then each stands on the one before.
    private const int MaxCompared = 24;

    /// <summary>Finds the states.</summary>
    /// <param name="source">The disk, open in its current state; stays open as long as the states are used.</param>
    /// <param name="open">Opens the disk anew, at a snapshot, or in its current state for null.</param>
    /// <param name="form">What of an image counts as a snapshot; a bundle has one kind only.</param>
    /// <param name="warn">Told what cannot be carried over.</param>
    /// <param name="cancellationToken">Stops comparing.</param>
    public static async ValueTask<IReadOnlyList<DiskState>> FindAsync(
        BlockNode source, Func<SnapshotSelector?, CancellationToken, ValueTask<BlockNode>> open, SnapshotForm form, Action<string> warn,
        CancellationToken cancellationToken)
    {
        foreach (var snapshot in source.Snapshots.Where(snapshot => snapshot.VmStateSize > 0))
        {
            warn($"{source.Name}: the saved machine state of snapshot '{SafeText.Clean(NameOf(snapshot), 256)}' is left out");
        }

        return source.HasSnapshotTree ? OfTree(source, open)
            : source.Backing is not null && (form == SnapshotForm.Chain || source.Snapshots.Count == 0) ? await OfChainAsync(source, warn, cancellationToken).ConfigureAwait(false)
            : await OfSnapshotsAsync(source, open, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>The same states with the size of the largest, for a target that has one size: what a smaller one lacks reads as zeros.</summary>
    /// <param name="states">As <see cref="FindAsync"/> finds them.</param>
    /// <param name="warn">Told of each state that becomes larger.</param>
    /// <param name="cancellationToken">Stops.</param>
    public static async ValueTask<IReadOnlyList<DiskState>> WithOneSizeAsync(
        IReadOnlyList<DiskState> states, Action<string> warn, CancellationToken cancellationToken)
    {
        var sizes = new long[states.Count];
        for (var i = 0; i < sizes.Length; i++)
        {
            var node = await states[i].OpenAsync(cancellationToken).ConfigureAwait(false);
            await using var closing = node.ConfigureAwait(false);
            sizes[i] = node.VirtualSize;
        }

        var size = sizes.Max();
        for (var i = 0; i < sizes.Length; i++)
        {
            if (sizes[i] < size)
            {
                warn($"'{SafeText.Clean(states[i].Name, 256)}' has {sizes[i]} bytes; all states of a bundle have one size, {size} bytes, and the rest reads as zeros");
            }
        }

        return [.. states.Select(state => state with { OpenAsync = async token => new PaddedNode(await state.OpenAsync(token).ConfigureAwait(false), size) })];
    }

    // A snapshot whose parent is not one (the current state, in a bundle that says so) is copied on top of the first: any state will do.
    private static List<DiskState> OfTree(BlockNode source, Func<SnapshotSelector?, CancellationToken, ValueTask<BlockNode>> open)
    {
        var onTheWay = new HashSet<string>();
        var byId = source.Snapshots.ToDictionary(snapshot => snapshot.Id);
        for (var id = source.ParentSnapshotId; id is not null && byId.TryGetValue(id, out var snapshot) && onTheWay.Add(id); id = snapshot.ParentId)
        {
        }

        // Depth first, the way to the current state last: so the copy goes back as seldom as can be.
        var states = new List<DiskState>();
        var waiting = new Stack<(SnapshotInfo Snapshot, int Parent)>();
        Push(source.Snapshots.Where(s => s.ParentId is null || !byId.ContainsKey(s.ParentId)), -1);
        var currentParent = -1;
        while (waiting.TryPop(out var next))
        {
            var id = next.Snapshot.Id;
            var index = states.Count;
            states.Add(new(NameOf(next.Snapshot), DateOf(next.Snapshot), false, token => open(new(id, null, null), token)) { Parent = index == 0 ? -1 : Math.Max(next.Parent, 0) });
            currentParent = id == source.ParentSnapshotId ? index : currentParent;
            Push(source.Snapshots.Where(s => s.ParentId == id), index);
        }

        states.Add(Current(token => open(null, token)) with { Parent = states.Count == 0 ? -1 : Math.Max(currentParent, 0) });
        return states;

        // The last one pushed is visited first.
        void Push(IEnumerable<SnapshotInfo> children, int parent)
        {
            foreach (var child in children.OrderByDescending(s => onTheWay.Contains(s.Id)).ThenByDescending(s => s.Date))
            {
                waiting.Push((child, parent));
            }
        }
    }

    private static async ValueTask<IReadOnlyList<DiskState>> OfChainAsync(BlockNode source, Action<string> warn, CancellationToken cancellationToken)
    {
        var states = new List<DiskState>();
        var files = new HashSet<string>();
        for (var node = source; node is not null; node = node.Backing)
        {
            var layer = node;
            _ = files.Add(Path.GetFileName(layer.Name));
            if (ReferenceEquals(layer, source))
            {
                states.Add(Current(Borrow));
                continue;
            }

            // What the image itself says counts: file names change, and times with every copy.
            var label = (await layer.GetInfoAsync(cancellationToken).ConfigureAwait(false)).Label;
            states.Add(new(label?.Name ?? NameOf(layer, source), label?.Date ?? DateOf(layer), false, Borrow));

            ValueTask<BlockNode> Borrow(CancellationToken token) => new(new BorrowedNode(layer));
        }

        TellBranches(source.Name, files, warn);
        states.Reverse();
        return [.. states.Select((state, i) => state with { Parent = i - 1 })];
    }

    // A chain is one line of a tree: files of other branches name their backing file, and are named by none of this line.
    private static void TellBranches(string top, HashSet<string> chain, Action<string> warn)
    {
        if (!File.Exists(top))
        {
            return;
        }

        List<string> others;
        try
        {
            var directory = Path.GetDirectoryName(top) is { Length: > 0 } parent ? parent : ".";
            others = [.. Directory.EnumerateFiles(directory).Select(file => Path.GetFileName(file)).Where(file => !chain.Contains(file) && ChainFileName.SnapshotOf(top, file) is not null).Order(StringComparer.Ordinal)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Who may not list the directory is not told.
            return;
        }

        if (others.Count > 0)
        {
            warn(
                $"{top}: only its backing chain is copied; left out, though named as its snapshots: {string.Join(", ", others.Take(8).Select(file => $"'{SafeText.Clean(file, 256)}'"))}"
                + (others.Count > 8 ? $" and {others.Count - 8} more" : string.Empty));
        }
    }

    // The file's name; of the files that we make for snapshots (OverlayFiles) what was the snapshot's.
    private static string NameOf(BlockNode layer, BlockNode top) =>
        ChainFileName.SnapshotOf(top.Name, layer.Name) ?? (Path.GetFileNameWithoutExtension(layer.Name) is { Length: > 0 } name ? name : layer.Name);

    // The format does not say what a snapshot descends from. What shares most with it is as good: the earliest of these.
    private static async ValueTask<IReadOnlyList<DiskState>> OfSnapshotsAsync(
        BlockNode source, Func<SnapshotSelector?, CancellationToken, ValueTask<BlockNode>> open, CancellationToken cancellationToken)
    {
        List<DiskState> states =
        [
            .. source.Snapshots.Select(snapshot => new DiskState(
                NameOf(snapshot), DateOf(snapshot), false, token => open(new(snapshot.Id, null, null), token))),
            Current(token => open(null, token)),
        ];
        for (var i = 1; i < states.Count; i++)
        {
            var (best, least) = (i - 1, long.MaxValue);
            for (var earlier = states.Count > MaxCompared ? i : 0; earlier < i; earlier++)
            {
                var difference = new DifferenceNode(
                    await states[i].OpenAsync(cancellationToken).ConfigureAwait(false), await states[earlier].OpenAsync(cancellationToken).ConfigureAwait(false));
                await using var closing = difference.ConfigureAwait(false);
                var count = await difference.CountAsync(cancellationToken).ConfigureAwait(false);
                (best, least) = count <= least ? (earlier, count) : (best, least);
            }

            states[i] = states[i] with { Parent = best };
        }

        return states;
    }

    private static DiskState Current(Func<CancellationToken, ValueTask<BlockNode>> open) => new("current state", DateTimeOffset.UtcNow, true, open);

    private static string NameOf(SnapshotInfo snapshot) => snapshot.Name.Length > 0 ? snapshot.Name : snapshot.Id;

    private static DateTimeOffset DateOf(SnapshotInfo snapshot) => snapshot.Date == default ? DiskState.NoDate : snapshot.Date;

    private static DateTimeOffset DateOf(BlockNode layer) =>
        File.Exists(layer.Name) ? new DateTimeOffset(File.GetLastWriteTimeUtc(layer.Name)) : DateTimeOffset.UtcNow;
}
