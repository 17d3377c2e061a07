using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Raw;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>Disks for the server's tests.</summary>
internal static class TestDisks
{
    /// <summary>Bytes that differ everywhere.</summary>
    public static byte[] Pattern(int length, int seed = 1)
    {
        var bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    /// <summary>A raw disk in memory: the server can neither send it from a file nor read it without waiting.</summary>
    public static BlockNode Memory(byte[] bytes) => Raw(new MemoryStorage("memory", bytes, readOnly: true), bytes.Length);

    /// <summary>Any storage as a raw disk.</summary>
    public static BlockNode Raw(Storage storage, long size) => new ImageNode(new RawImage(storage, HostOffset.Zero, size), null);

    /// <summary>Reads and writes wait until they are let go, on another thread, as over a network.</summary>
    public sealed class SlowStorage(byte[] bytes) : Storage
    {
        private readonly TaskCompletionSource _go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private int _waiting;

        public int Waiting => Volatile.Read(ref _waiting);

        public override string Name => "slow";

        public override long Length => bytes.Length;

        public void LetGo() => _go.TrySetResult();

        public override bool IsReadOnly => false;

        public override async ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Interlocked.Increment(ref _waiting);
            await _go.Task;
            bytes.AsMemory((int)at.Value, buffer.Length).CopyTo(buffer);
            return buffer.Length;
        }

        public override async ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Interlocked.Increment(ref _waiting);
            await _go.Task;
        }
    }

    /// <summary>Every second 4 KiB are unreadable; the others are as <paramref name="bytes"/> says.</summary>
    public sealed class BadStorage(byte[] bytes) : Storage
    {
        public override string Name => "/secret/path/bad";

        public override long Length => bytes.Length;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if ((at.Value / 4096) % 2 == 1)
            {
                throw new BlockException(BlockErrorKind.Io, $"{Name}: Input/output error");
            }

            bytes.AsMemory((int)at.Value, buffer.Length).CopyTo(buffer);
            return new(buffer.Length);
        }
    }
}
