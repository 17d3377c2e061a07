using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.TestKit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>A storage that keeps its length, as a device does, with old bytes everywhere.</summary>
/// <param name="size">Bytes.</param>
internal sealed class DeviceStorage(int size) : Storage
{
    private readonly MemoryStorage _bytes = new("/dev/test", TestContent.Make(99, 0, size));

    public override string Name => _bytes.Name;

    public override long Length => size;

    public override bool IsReadOnly => false;

    public override bool HasFixedLength => true;

    public byte[] ToArray() => _bytes.ToArray();

    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        _bytes.ReadAsync(at, buffer, cancellationToken);

    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ThrowIfBeyond(at.Value + buffer.Length);
        return _bytes.WriteAsync(at, buffer, cancellationToken);
    }

    public override ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        ThrowIfBeyond(at.Value + length);
        return _bytes.WriteZeroesAsync(at, length, mayUnmap, cancellationToken);
    }

    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.InvalidRequest, $"{Name}: Could not set the size to {length} bytes");

    private void ThrowIfBeyond(long end)
    {
        if (end > size)
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"{Name}: No space left on device");
        }
    }
}
