using Platter.Core.Errors;
using Platter.Formats.Qcow2.Check;

namespace Platter.Formats.Qcow2.Writing;

// What an interrupted copy left behind, given back before the copy goes on.
internal sealed partial class Qcow2Writer
{
    /// <inheritdoc/>
    /// <remarks>Lowering a refcount that nothing needs is right at any time, so blocks are changed where they are, and no space is needed. Where the check finds more than leaks, nothing is done.</remarks>
    public override async ValueTask GiveUpLeaksAsync(CancellationToken cancellationToken = default)
    {
        await CheckpointAsync(cancellationToken, final: true).ConfigureAwait(false);
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _checkpoint.ThrowIfBroken();
            var metadata = await Qcow2Opening.ReadForCheckAsync(_storage, cancellationToken).ConfigureAwait(false);
            var check = new Qcow2Check(_storage, metadata, static _ => { }, null);
            if (await check.RunAsync(cancellationToken).ConfigureAwait(false) is not { Corruptions: 0, Errors: 0 } || !check.IsComplete)
            {
                return;
            }

            await _refcounts.LowerAsync(check.Counts.Count, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _changing.Release();
        }

        // On the disk before the file is cut: refcounts never tell of clusters that are not there.
        await CheckpointAsync(cancellationToken, final: true).ConfigureAwait(false);
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _reuseWasJudged = true;
            await _allocator.FindFreeAsync(cancellationToken).ConfigureAwait(false);
            await CutBehindAsync().ConfigureAwait(false);
        }
        finally
        {
            _changing.Release();
        }
    }
}
