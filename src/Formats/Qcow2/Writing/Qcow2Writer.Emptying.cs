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
}
