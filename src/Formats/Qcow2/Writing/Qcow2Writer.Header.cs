using System.Text;
using Platter.Core.Errors;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Writing;

// Changes of the first cluster that nothing else depends on: HeaderCluster.ReplaceAsync has the order of writes. Everything else is durable before.
internal sealed partial class Qcow2Writer
{
    /// <inheritdoc/>
    public override ValueTask ChangeBackingAsync(string? name, string? format, CancellationToken cancellationToken = default)
    {
        var bytes = Encoding.UTF8.GetBytes(name ?? string.Empty);
        if (bytes.Length > Qcow2Header.MaxBackingNameBytes)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{_storage.Name}: the name of a backing file has at most {Qcow2Header.MaxBackingNameBytes} bytes");
        }

        if (bytes.Length > 0 && _isRawDataFile)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{_storage.Name}: its data file has to stay valid as a raw image (data_file_raw), so it cannot have a backing file");
        }

        // Not one expression with the bytes: a null beside an array would become an empty memory, which is an extension without content.
        ReadOnlyMemory<byte>? formatBytes = null;
        if (bytes.Length > 0 && format is not null)
        {
            formatBytes = Encoding.UTF8.GetBytes(format);
        }

        return ChangeHeaderAsync(cluster => cluster with { BackingFile = bytes, BackingFormat = formatBytes }, cancellationToken);
    }

    // Wholly or not at all. No other request may be under way.
    private async ValueTask ChangeHeaderAsync(Func<HeaderCluster, HeaderCluster> change, CancellationToken cancellationToken)
    {
        // The second one writes the refcounts that the first one allowed to lower.
        await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        await CheckpointAsync(cancellationToken, final: true).ConfigureAwait(false);
        await _checkpointing.WaitAsync(cancellationToken).ConfigureAwait(false);
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _checkpoint.ThrowIfBroken();
            var old = new byte[_geometry.ClusterSize];
            _ = await _storage.ReadAsync(default, old, cancellationToken).ConfigureAwait(false);
            var changed = change(HeaderCluster.Parse(old, _storage.Name));
            _ = changed.ToBytes(_storage.Name);
            try
            {
                await changed.ReplaceAsync(_storage, old, cancellationToken).ConfigureAwait(false);
                await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
                await _header.ReloadAsync(CancellationToken.None).ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                // The header on the disk is the old one or the new one, and memory does not know which.
                _checkpoint.GiveUp(e);
                throw;
            }
        }
        finally
        {
            _changing.Release();
            _checkpointing.Release();
        }
    }
}
