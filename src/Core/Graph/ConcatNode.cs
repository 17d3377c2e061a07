using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Graph;

/// <summary>Several disks one after the other as one disk: split storages, and <c>convert</c> with several sources.</summary>
public sealed class ConcatNode : BlockNode
{
    private readonly BlockNode[] _parts;
    private readonly long[] _starts;

    /// <summary>Takes over the parts; there is at least one.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: together they are larger than 2^63 bytes.</exception>
    public ConcatNode(string name, IEnumerable<BlockNode> parts)
    {
        Name = name;
        _parts = [.. parts];
        _starts = new long[_parts.Length];
        long size = 0;
        for (var i = 0; i < _parts.Length; i++)
        {
            _starts[i] = size;
            if (!Sizes.TryAdd(size, _parts[i].VirtualSize, out size))
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"{name}: the disks together are larger than 2^63 bytes");
            }
        }

        VirtualSize = size;
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override string FormatName => _parts[0].FormatName;

    /// <inheritdoc/>
    public override long VirtualSize { get; }

    /// <summary>The parts in order.</summary>
    public IReadOnlyList<BlockNode> Parts => _parts;

    /// <inheritdoc/>
    public override IEnumerable<Storage> Storages => _parts.SelectMany(part => part.Storages);

    /// <inheritdoc/>
    public override IEnumerable<StorageDirectory> Directories => _parts.SelectMany(part => part.Directories);

    /// <inheritdoc/>
    public override async ValueTask<Extent> MapAsync(
        GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default)
    {
        var index = Array.BinarySearch(_starts, at.Value);
        if (index < 0)
        {
            index = ~index - 1;
        }

        // Of parts without bytes that start at the same place, the last one with bytes is meant.
        while (index + 1 < _parts.Length && _starts[index + 1] <= at.Value)
        {
            index++;
        }

        var part = _parts[index];
        var inside = new GuestOffset(at.Value - _starts[index]);
        var extent = await part.MapAsync(
            inside, Math.Min(length, part.VirtualSize - inside.Value), detail, cancellationToken).ConfigureAwait(false);
        return extent.Kind == ExtentKind.Encoded
            ? extent with { Offset = at, Driver = new ShiftedDriver(extent.Driver!, _starts[index]) }
            : extent with { Offset = at };
    }

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => _parts[0].GetInfoAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.Unsupported, $"{Name}: check the disks it is made of one by one");

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        foreach (var part in _parts)
        {
            await part.DisposeAsync().ConfigureAwait(false);
        }
    }
}
