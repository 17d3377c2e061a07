using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Writing;

// A copy under way says so: see UnfinishedMark.
internal sealed partial class Qcow2Writer
{
    /// <inheritdoc/>
    public override async ValueTask<bool> SetUnfinishedAsync(bool unfinished, CancellationToken cancellationToken = default)
    {
        if (_geometry.Version < 3)
        {
            return false;
        }

        if (unfinished != ((_header.Header.Incompatible & IncompatibleFeatures.Unfinished) != 0))
        {
            await ChangeHeaderAsync(unfinished ? UnfinishedMark.On : UnfinishedMark.Off, cancellationToken).ConfigureAwait(false);
        }

        return true;
    }
}
