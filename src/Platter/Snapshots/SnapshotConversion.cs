using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Operations.Copy;
using Platter.Operations.Digest;
using Platter.Operations.Offline;

namespace Platter.Snapshots;

/// <summary>Copies a disk with all its snapshots: state by state, and of each only what its parent has not.</summary>
internal sealed class SnapshotConversion
{
    private readonly DiskConvertOptions _options;
    private readonly SnapshotTarget _target;
    private readonly Action<string, string>? _digest;
    private readonly IReadOnlyList<DiskState> _states;

    // The state that was copied last stays open: most stand on the one before, and to open a long chain once more takes time.
    private BlockNode? _last;
    private int _lastIndex = -1;

    private SnapshotConversion(IReadOnlyList<DiskState> states, SnapshotTarget target, DiskConvertOptions options, Action<string, string>? digest) =>
        (_states, _target, _options, _digest) = (states, target, options, digest);

    /// <summary>Copies; on any error what was made is removed.</summary>
    /// <param name="states">As <see cref="SnapshotLineage"/> finds them.</param>
    /// <param name="target">Where to.</param>
    /// <param name="options">How; compression, verification and the copy's own options count.</param>
    /// <param name="digest">Told the digest and the name of each state, if not null.</param>
    /// <param name="progress">Told often.</param>
    /// <param name="cancellationToken">Stops.</param>
    public static async Task RunAsync(
        IReadOnlyList<DiskState> states, SnapshotTarget target, DiskConvertOptions options, Action<string, string>? digest,
        IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        var done = false;
        try
        {
            await new SnapshotConversion(states, target, options, digest).RunAsync(progress, cancellationToken).ConfigureAwait(false);
            done = true;
        }
        finally
        {
            if (!done)
            {
                await CloseQuietlyAsync(target).ConfigureAwait(false);
                target.Remove();
            }
        }
    }

    private async Task RunAsync(IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        try
        {
            for (var i = 0; i < _states.Count; i++)
            {
                var share = progress is null ? null : new Share(progress, i, _states.Count);
                await CopyAsync(i, share, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            await KeepAsync(null, -1).ConfigureAwait(false);
        }

        await _target.FinishAsync(cancellationToken).ConfigureAwait(false);
        for (var i = 0; _options.Verify && i < _states.Count; i++)
        {
            await VerifyAsync(i, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask CopyAsync(int index, Share? progress, CancellationToken cancellationToken)
    {
        var state = _states[index];
        var node = await state.OpenAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            var source = await DifferenceAsync(node, state, cancellationToken).ConfigureAwait(false);
            await using var closing = source.ConfigureAwait(false);
            await CopyAsync(source, state, index, progress, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await node.DisposeAsync().ConfigureAwait(false);
            throw;
        }

        await KeepAsync(node, index).ConfigureAwait(false);
    }

    private async ValueTask CopyAsync(BlockNode source, DiskState state, int index, Share? progress, CancellationToken cancellationToken)
    {
        var node = await _target.BeginAsync(state, index, source.VirtualSize, cancellationToken).ConfigureAwait(false);
        var tree = _digest is null ? null : new DigestTree(source.VirtualSize);
        var isFirst = state.Parent < 0;
        var copy = _options.Copy with { Digest = tree, SharedDepth = isFirst ? 0 : 1, TargetIsZero = index == 0 };
        var unit = node.AllocationUnit;
        var to = _options.Compress ? CopyTarget.Compressed(node, unit) : CopyTarget.Of(node, unit);
        await CopyEngine.CopyAsync(source, to, copy, progress, cancellationToken).ConfigureAwait(false);
        await _target.EndAsync(state, index, cancellationToken).ConfigureAwait(false);
        _digest?.Invoke(tree!.Finish(), state.Name);
    }

    // The state told apart from its parent. Disposing it leaves the state open.
    private async ValueTask<BlockNode> DifferenceAsync(BlockNode node, DiskState state, CancellationToken cancellationToken)
    {
        var borrowed = new BorrowedNode(node);
        return state.Parent < 0
            ? borrowed
            : new DifferenceNode(
                borrowed,
                state.Parent == _lastIndex ? new BorrowedNode(_last!) : await _states[state.Parent].OpenAsync(cancellationToken).ConfigureAwait(false));
    }

    private async ValueTask KeepAsync(BlockNode? node, int index)
    {
        var before = _last;
        (_last, _lastIndex) = (node, index);
        if (before is not null)
        {
            await before.DisposeAsync().ConfigureAwait(false);
        }
    }

    private async ValueTask VerifyAsync(int index, CancellationToken cancellationToken)
    {
        var source = await _states[index].OpenAsync(cancellationToken).ConfigureAwait(false);
        await using var closingSource = source.ConfigureAwait(false);
        var copy = await _target.OpenAsync(index, cancellationToken).ConfigureAwait(false);
        await using var closingCopy = copy.ConfigureAwait(false);
        var result = await CompareOperation.CompareAsync(source, copy.Node, strict: false, cancellationToken: cancellationToken).ConfigureAwait(false);
        if (result.Outcome != CompareOutcome.Identical)
        {
            throw new BlockException(
                BlockErrorKind.Io,
                $"{copy.Node.Name}: verification failed: '{SafeText.Clean(_states[index].Name, 256)}' differs from the source at guest offset {result.At.Value}");
        }
    }

    // The error that led here is the one to tell.
    private static async ValueTask CloseQuietlyAsync(SnapshotTarget target)
    {
        try
        {
            await target.DisposeAsync().ConfigureAwait(false);
        }
        catch (BlockException)
        {
        }
    }

    private sealed class Share(IProgress<CopyProgress> progress, int index, int count) : IProgress<CopyProgress>
    {
        public void Report(CopyProgress value) =>
            progress.Report(new((value.Total * index) + value.Done, value.Total * count, value.Written));
    }
}
