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

    // A lie in the refcounts must not cost data, so every pointer is counted first; with little left in the image that is little work. The switch is durable by now.
    private async ValueTask GiveUpFreeSpaceAsync(CancellationToken cancellationToken)
    {
        if (!await _areRefcountsTrue(cancellationToken).ConfigureAwait(false))
        {
            return;
        }

        await _allocator.FindFreeAsync(cancellationToken).ConfigureAwait(false);
        await CutBehindAsync().ConfigureAwait(false);
        var end = _allocator.End;
        for (long first = 0; first < end;)
        {
            var behind = first;
            while (behind < end && _refcounts.GetNow(behind) == 0)
            {
                behind++;
            }

            if (behind > first)
            {
                await _storage.WriteZeroesAsync(
                    new(first << _geometry.ClusterBits), (behind - first) << _geometry.ClusterBits, mayUnmap: true, cancellationToken).ConfigureAwait(false);
            }

            first = behind + 1;
        }
    }
}
