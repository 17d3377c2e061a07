using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>A guest that remembers what each sector may read as now, and what it may read as after a closing that failed.</summary>
internal sealed class WalkGuest
{
    private readonly Dictionary<long, HashSet<int>> _now = [];
    private readonly Dictionary<long, HashSet<int>> _durable = [];
    private int _stamp;

    public WalkGuest(ImageNode node, byte[] content)
    {
        Node = node;
        for (long sector = 0; sector < content.Length / 512; sector++)
        {
            _now[sector] = [Hash(content.AsSpan((int)sector * 512, 512))];
            _durable[sector] = [.. _now[sector]];
        }

        Sizes = [content.Length];
    }

    public ImageNode Node { get; }

    /// <summary>Sizes that the disk may have.</summary>
    public List<long> Sizes { get; }

    /// <summary>Names of snapshots that may be there, with what is in them.</summary>
    public List<(string Name, byte[] Content)> Snapshots { get; } = [];

    public Task WriteAsync(long at, int length)
    {
        var bytes = TestContent.Make(++_stamp, at, length);
        return ChangeAsync(at, bytes, () => Node.WriteAsync(new(at), bytes));
    }

    public Task CompressAsync(long at, int length)
    {
        var bytes = new byte[length];
        bytes.AsSpan().Fill((byte)++_stamp);
        TestContent.Make(_stamp, at, 400).CopyTo(bytes, 0);
        return ChangeAsync(at, bytes, () => Node.WriteCompressedAsync(new(at), bytes));
    }

    public Task ZeroAsync(long at, int length) => ChangeAsync(at, new byte[length], () => Node.WriteZeroesAsync(new(at), length, WriteFlags.MayUnmap));

    public Task DiscardAsync(long at, int length) => ChangeAsync(at, new byte[length], () => Node.DiscardAsync(new(at), length));

    public async Task FlushAsync()
    {
        await Node.FlushAsync();
        foreach (var (sector, values) in _now)
        {
            _durable[sector] = [.. values];
        }
    }

    public async Task ResizeAsync(long size)
    {
        var zero = Hash(new byte[512]);
        for (var sector = Sizes[^1] / 512; sector < size / 512; sector++)
        {
            _now[sector] = [zero];
            _durable[sector] = [zero];
        }

        // What a shrinking disk gives up may be lost from the beginning.
        for (var sector = size / 512; sector < Sizes[^1] / 512; sector++)
        {
            _now.Remove(sector);
            _durable.Remove(sector);
        }

        Sizes.Add(size);
        await Node.ResizeAsync(size);
        Sizes.RemoveRange(0, Sizes.Count - 1);
    }

    public async Task CreateSnapshotAsync(string name)
    {
        var content = await ReadAllAsync(Node);
        Snapshots.Add((name, content));
        await Node.CreateSnapshotAsync(name, DateTimeOffset.UnixEpoch);
        await FlushedAsync();
    }

    public async Task ApplySnapshotAsync(string name)
    {
        var content = Snapshots.Find(s => s.Name == name).Content;
        for (long sector = 0; sector < content.Length / 512; sector++)
        {
            _durable[sector].Add(Hash(content.AsSpan((int)sector * 512, 512)));
            _now[sector].Add(Hash(content.AsSpan((int)sector * 512, 512)));
        }

        await Node.ApplySnapshotAsync(SnapshotSelector.Parse(name));
        for (long sector = 0; sector < content.Length / 512; sector++)
        {
            _now[sector] = [Hash(content.AsSpan((int)sector * 512, 512))];
        }

        await FlushedAsync();
    }

    public async Task DeleteSnapshotAsync(string name)
    {
        await Node.DeleteSnapshotAsync(SnapshotSelector.Parse(name));
        await FlushedAsync();
    }

    /// <summary>The guest does not give up at the first error, and reads what it may.</summary>
    /// <returns>Whether it could flush.</returns>
    public async Task<bool> GoOnAsync(string when)
    {
        await VerifyNowAsync(Node, $"{when}, then");
        try
        {
            await WriteAsync(Sizes.Min() / 2, 2000);
            await FlushAsync();
            return true;
        }
        catch (BlockException)
        {
            return false;
        }
        finally
        {
            await VerifyNowAsync(Node, $"{when}, later");
        }
    }

    /// <summary>A disk may read as this one now.</summary>
    public Task VerifyNowAsync(BlockNode node, string when) => VerifyAsync(node, _now, when);

    /// <summary>A disk may read as this one after a closing that failed.</summary>
    public Task VerifyDurableAsync(BlockNode node, string when) => VerifyAsync(node, _durable, when);

    public static async Task<byte[]> ReadAllAsync(BlockNode node)
    {
        var bytes = new byte[node.VirtualSize];
        await node.ReadAsync(default, bytes);
        return bytes;
    }

    private async Task ChangeAsync(long at, byte[] bytes, Func<ValueTask> request)
    {
        var first = at / 512;
        var last = (at + bytes.Length - 1) / 512;

        // Sectors that are changed in part have what they had, with the part.
        var whole = new byte[(last - first + 1) * 512];
        await Node.ReadAsync(new(first * 512), whole);
        bytes.CopyTo(whole.AsSpan((int)(at - (first * 512))));
        for (var sector = first; sector <= last; sector++)
        {
            var hash = Hash(whole.AsSpan((int)(sector - first) * 512, 512));
            _now[sector].Add(hash);
            _durable[sector].Add(hash);
        }

        await request();
        for (var sector = first; sector <= last; sector++)
        {
            _now[sector] = [Hash(whole.AsSpan((int)(sector - first) * 512, 512))];
        }
    }

    private ValueTask FlushedAsync()
    {
        foreach (var (sector, values) in _now)
        {
            _durable[sector] = [.. values];
        }

        return default;
    }

    private async Task VerifyAsync(BlockNode node, Dictionary<long, HashSet<int>> allowed, string when)
    {
        Assert.True(Sizes.Contains(node.VirtualSize), $"{when}: the disk has {node.VirtualSize} bytes");
        var bytes = await ReadAllAsync(node);
        for (long sector = 0; sector < bytes.Length / 512; sector++)
        {
            Assert.True(
                !allowed.TryGetValue(sector, out var values) || values.Contains(Hash(bytes.AsSpan((int)sector * 512, 512))),
                $"{when}: guest sector {sector} reads as nothing that was written there");
        }
    }

    private static int Hash(ReadOnlySpan<byte> bytes)
    {
        var hash = default(HashCode);
        hash.AddBytes(bytes);
        return hash.ToHashCode();
    }
}
