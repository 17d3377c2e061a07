using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>A guest at an open disk. Every sector it writes says which write it was, and all of it is noted in the <see cref="GuestHistory"/>.</summary>
/// <remarks>Requests may run at once as long as they do not overlap. Offsets and lengths are guest bytes.</remarks>
internal sealed class CrashGuest(CrashRun run, BlockNode node) : IAsyncDisposable
{
    private bool _closed;

    /// <summary>The disk.</summary>
    public BlockNode Node => node;

    /// <summary>Writes content that was never there before.</summary>
    public async Task WriteAsync(long offset, int length, bool forceUnitAccess = false)
    {
        var bytes = TestContent.Make(run.NextContent(), offset, length);
        var write = run.Guest.BeginWrite(offset, length, bytes);
        await node.WriteAsync(new(offset), bytes, forceUnitAccess ? WriteFlags.ForceUnitAccess : WriteFlags.None);
        run.Guest.EndWrite(write, forceUnitAccess);
    }

    /// <summary>Writes whole clusters compressed, one after the other; every sector begins as those of <see cref="WriteAsync"/> do. Some of them do not get smaller.</summary>
    public async Task CompressAsync(long offset, int length, int cluster)
    {
        for (var at = offset; at < offset + length; at += cluster)
        {
            var content = run.NextContent();
            var bytes = TestContent.Make(content, at, (int)Math.Min(cluster, offset + length - at));
            for (var sector = 0; content % 5 > 0 && sector < bytes.Length; sector += 512)
            {
                bytes.AsSpan(sector + 16, 496 - (content % 5 * 60)).Clear();
            }

            var write = run.Guest.BeginWrite(at, bytes.Length, bytes);
            await node.WriteCompressedAsync(new(at), bytes);
            run.Guest.EndWrite(write);
        }
    }

    /// <summary>Writes zeros.</summary>
    public async Task ZeroAsync(long offset, int length, bool mayUnmap)
    {
        var write = run.Guest.BeginWrite(offset, length, null);
        await node.WriteZeroesAsync(new(offset), length, mayUnmap ? WriteFlags.MayUnmap : WriteFlags.None);
        run.Guest.EndWrite(write);
    }

    /// <summary>Discards whole sectors.</summary>
    public async Task DiscardAsync(long offset, int length)
    {
        var write = run.Guest.BeginWrite(offset, length, null);
        await node.DiscardAsync(new(offset), length);
        var found = new byte[length];
        await node.ReadAsync(new(offset), found);
        CrashViolation.ThrowIf(run.Guest.EndDiscard(write, offset, found));
    }

    /// <summary>Flushes.</summary>
    public async Task FlushAsync()
    {
        var begun = run.Guest.BeginFlush();
        await node.FlushAsync();
        run.Guest.EndFlush(begun);
    }

    /// <summary>Changes the size of the disk.</summary>
    public async Task ResizeAsync(long size, ResizePreallocation preallocation = ResizePreallocation.Off)
    {
        run.SmallestSize = Math.Min(run.SmallestSize, size);
        run.Guest.BeginResize(size, run.Image.Below);
        await node.ResizeAsync(size, preallocation);
        run.Guest.EndResize();
    }

    /// <summary>A request at random: mostly writes; flushes one time in <paramref name="flushEvery"/>.</summary>
    /// <param name="random">Chooses.</param>
    /// <param name="cluster">Bytes in a cluster: sizes and offsets favour its multiples.</param>
    /// <param name="flushEvery">0 for never.</param>
    public Task RequestAsync(Random random, int cluster, int flushEvery = 8)
    {
        if (flushEvery > 0 && random.Next(flushEvery) == 0)
        {
            return FlushAsync();
        }

        var (offset, length) = Range(random, cluster, run.Guest.Size);
        return random.Next(10) switch
        {
            0 => ZeroAsync(offset, length, mayUnmap: true),
            1 => ZeroAsync(offset, length, mayUnmap: false),
            2 or 3 => DiscardAsync(offset, length),
            4 => WriteAsync(offset, length, forceUnitAccess: true),
            _ => WriteAsync(offset, length),
        };
    }

    /// <summary>Sectors at random, from one to a few clusters.</summary>
    public static (long Offset, int Length) Range(Random random, int cluster, long size)
    {
        var offset = random.NextInt64(size) & ~511L;
        var length = random.Next(4) switch { 0 => 512, 1 => cluster, 2 => 512 * random.Next(1, 9), _ => random.Next(1, (3 * cluster / 512) + 1) * 512 };
        if (random.Next(3) == 0)
        {
            offset &= -cluster;
        }

        return (offset, (int)Math.Min(length, size - offset));
    }

    /// <summary>Reads everything and compares it with what was written.</summary>
    public async Task CompareAsync()
    {
        var found = new byte[node.VirtualSize];
        await node.ReadAsync(default, found);
        var wanted = run.Guest.Current(0, found.Length);
        var same = found.AsSpan().CommonPrefixLength(wanted);
        CrashViolation.ThrowIf(same == found.Length ? null : $"without any power cut the disk differs at guest offset 0x{same:x}");
    }

    /// <summary>Closes the disk, which makes all of it durable.</summary>
    public async ValueTask DisposeAsync()
    {
        if (!_closed)
        {
            _closed = true;
            var begun = run.Guest.BeginFlush();
            await node.DisposeAsync();
            run.Guest.EndFlush(begun);
        }
    }
}
