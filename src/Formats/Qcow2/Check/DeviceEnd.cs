using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Check;

/// <summary>A device as a file that ends behind the last cluster in use: a repair writes behind that.</summary>
/// <param name="inner">The device.</param>
/// <param name="end">Where the image ends, in bytes.</param>
internal sealed class DeviceEnd(Storage inner, long end) : Storage
{
    private long _end = Math.Min(end, inner.Length);

    /// <inheritdoc/>
    public override string Name => inner.Name;

    /// <inheritdoc/>
    public override long Length => _end;

    /// <inheritdoc/>
    public override bool IsReadOnly => inner.IsReadOnly;

    /// <summary>The same storage, if its length says where an image ends; otherwise seen up to where refcounts and references end.</summary>
    public static async ValueTask<Storage> OfAsync(Storage storage, Qcow2Metadata metadata, CancellationToken cancellationToken)
    {
        if (!storage.HasFixedLength)
        {
            return storage;
        }

        var report = await new Qcow2Check(storage, metadata, static _ => { }, null).RunAsync(cancellationToken).ConfigureAwait(false);
        return new DeviceEnd(storage, report.ImageEndOffset ?? storage.Length);
    }

    /// <inheritdoc/>
    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        at.Value >= _end ? new(0) : inner.ReadAsync(at, buffer[..(int)Math.Min(buffer.Length, _end - at.Value)], cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (at.Value + buffer.Length > inner.Length)
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"{Name}: Could not write {buffer.Length} bytes at {at}: No space left on device: it has {inner.Length} bytes");
        }

        await inner.WriteAsync(at, buffer, cancellationToken).ConfigureAwait(false);
        _end = Math.Max(_end, at.Value + buffer.Length);
    }

    /// <inheritdoc/>
    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
    {
        _end = Math.Min(length, _end);
        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => inner.FlushAsync(cancellationToken);

    /// <inheritdoc/>
    public override void Announce(StorageEvent purpose) => inner.Announce(purpose);
}
