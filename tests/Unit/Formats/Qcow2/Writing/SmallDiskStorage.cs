using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>A file on a disk with room for so many pages: a page counts once something was written to it, until it is a hole or cut off. Disposing it leaves it as it is.</summary>
/// <param name="inner">Holds the bytes.</param>
/// <param name="pages">Pages of 4 KiB that the disk has.</param>
internal sealed class SmallDiskStorage(MemoryStorage inner, int pages) : Storage
{
    private const int Page = 4096;
    private readonly HashSet<long> _used = [.. Enumerable.Range(0, (int)((inner.Length + Page - 1) / Page)).Select(p => (long)p)];

    /// <summary>Pages that the disk has.</summary>
    public int Pages { get; set; } = pages;

    /// <summary>Pages in use.</summary>
    public int Used => _used.Count;

    public MemoryStorage Inner => inner;

    public override string Name => inner.Name;

    public override long Length => inner.Length;

    public override bool IsReadOnly => false;

    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        inner.ReadAsync(at, buffer, cancellationToken);

    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        // As far as it goes, like a file system.
        for (long done = 0; done < buffer.Length;)
        {
            var page = (at.Value + done) / Page;
            if (!_used.Contains(page))
            {
                if (_used.Count >= Pages)
                {
                    throw new BlockException(BlockErrorKind.NoSpace, $"{Name}: No space left on device");
                }

                _used.Add(page);
            }

            var part = (int)Math.Min(buffer.Length - done, ((page + 1) * Page) - at.Value - done);
            _ = inner.WriteAsync(at + done, buffer.Slice((int)done, part), cancellationToken).AsTask();
            done += part;
        }

        return ValueTask.CompletedTask;
    }

    public override async ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        if (!mayUnmap)
        {
            await WriteAsync(at, new byte[length], cancellationToken);
            return;
        }

        await inner.WriteZeroesAsync(at, length, mayUnmap, cancellationToken);
        _used.RemoveWhere(p => p * Page >= at.Value && (p + 1) * Page <= at.Value + length);
    }

    public override ValueTask DiscardAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
    {
        _used.RemoveWhere(p => p * Page >= at.Value && (p + 1) * Page <= at.Value + length);
        return inner.DiscardAsync(at, length, cancellationToken);
    }

    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
    {
        _used.RemoveWhere(p => p * Page >= length);
        return inner.SetLengthAsync(length, cancellationToken);
    }

    public override bool TryReserve(HostOffset at, long length)
    {
        var wanted = Enumerable.Range((int)(at.Value / Page), (int)((at.Value + length - 1) / Page) - (int)(at.Value / Page) + 1).Select(p => (long)p).Where(p => !_used.Contains(p)).ToList();
        if (_used.Count + wanted.Count > Pages)
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"{Name}: No space left on device");
        }

        _used.UnionWith(wanted);
        return true;
    }
}
