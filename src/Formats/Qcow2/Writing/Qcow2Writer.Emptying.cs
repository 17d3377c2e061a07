using Platter.Core.Errors;

namespace Platter.Formats.Qcow2.Writing;

// Letting go of everything, in one switch of the header (see Qcow2Writer.Shadow.cs).
internal sealed partial class Qcow2Writer
{
    /// <inheritdoc/>
    public override ValueTask MakeEmptyAsync(CancellationToken cancellationToken = default) => ShadowAsync(
        async state =>
        {
            await state.CountTreeAsync(state.L1, raise: false, cancellationToken).ConfigureAwait(false);
            state.L1 = new ulong[state.L1.Length];
        },
        cancellationToken,
        givesUpSpace: true);

    // A lie in the refcounts must not cost data, so every pointer is counted first. The switch is durable by now.
    private async ValueTask GiveUpFreeSpaceAsync(CancellationToken cancellationToken)
    {
        if (!await _areRefcountsTrue(cancellationToken).ConfigureAwait(false))
        {
            return;
        }

        await _allocator.FindFreeAsync(cancellationToken).ConfigureAwait(false);
        if (_allocator.FreeInside > _allocator.End / 2 && !_storage.HasFixedLength)
        {
            // The new tables are what lies at the end: once more, to the front.
            _allocator.PrefersInside = true;
            _refcounts.MarkAll();
            try
            {
                await TryShadowAsync(static _ => ValueTask.CompletedTask, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException e) when (e.Kind == BlockErrorKind.NoSpace && _checkpoint.Broken is null)
            {
                // What was asked for has happened; the file stays longer than it could be.
            }

            await _allocator.FindFreeAsync(cancellationToken).ConfigureAwait(false);
        }

        _reuseWasJudged = true;
        await CutBehindAsync().ConfigureAwait(false);
        if (_givesBackSpace)
        {
            await DiscardRunsAsync(_allocator.Free, cancellationToken).ConfigureAwait(false);
        }
    }
}
