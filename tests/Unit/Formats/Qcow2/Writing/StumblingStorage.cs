using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>A storage in which one change fails: there is no space. Later ones succeed again.</summary>
/// <param name="inner">Where the bytes are.</param>
/// <param name="failing">Which change, counted from 0; the first that comes after it is the next.</param>
internal sealed class StumblingStorage(MemoryStorage inner, int failing) : Storage
{
    private int _changes;

    public bool HasFailed => _changes > failing;

    public override string Name => inner.Name;

    public override long Length => inner.Length;

    public override bool IsReadOnly => false;

    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        inner.ReadAsync(at, buffer, cancellationToken);

    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        Stumble();
        return inner.WriteAsync(at, buffer, cancellationToken);
    }

    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
    {
        Stumble();
        return inner.SetLengthAsync(length, cancellationToken);
    }

    private void Stumble()
    {
        if (_changes++ == failing)
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"{Name}: no space left (by order of a test)");
        }
    }
}
