using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Platter.Operations.Digest;

/// <summary>The digest of a disk's content, put together from pieces in any order: a tree of SHA-256 over blocks of 64 KiB (docs/digest.md).</summary>
/// <remarks>Thread-safe. Subtrees that are zero throughout cost nothing; others take 8 KiB while some of their blocks are still to come, and 32 bytes afterwards.</remarks>
public sealed class DigestTree
{
    /// <summary>Bytes of a block.</summary>
    public const int BlockBytes = 64 * 1024;

    private const int FanOut = 256;
    private const int HashBytes = SHA256.HashSizeInBytes;
    private const long NodeBytes = (long)BlockBytes * FanOut;
    private const int MaxLevels = 8;

    // The hash of a full subtree of zeros, by level; a block is level 0.
    private static readonly byte[][] s_zeros = MakeZeros();

    private readonly long _size;
    private readonly long _blocks;
    private readonly Dictionary<long, Pending> _pending = [];
    private Dictionary<long, byte[]> _nodes = [];

    /// <summary>A tree without content yet.</summary>
    /// <param name="size">Bytes of the disk.</param>
    public DigestTree(long size)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(size);
        _size = size;
        _blocks = (size / BlockBytes) + (size % BlockBytes == 0 ? 0 : 1);
    }

    /// <summary>Adds content.</summary>
    /// <param name="offset">Of the disk; a multiple of <see cref="BlockBytes"/>.</param>
    /// <param name="bytes">Whole blocks; the last one may be cut by the end of the disk.</param>
    public void Add(long offset, ReadOnlySpan<byte> bytes)
    {
        ThrowUnlessWhole(offset, bytes.Length);
        Span<byte> hash = stackalloc byte[HashBytes];
        for (var block = offset / BlockBytes; !bytes.IsEmpty; block++)
        {
            var part = bytes[..Math.Min(BlockBytes, bytes.Length)];
            bytes = bytes[part.Length..];
            if (part.Length == BlockBytes && !part.ContainsAnyExcept((byte)0))
            {
                Set(block, s_zeros[0]);
                continue;
            }

            SHA256.HashData(part, hash);
            Set(block, hash);
        }
    }

    /// <summary>Adds zeros.</summary>
    /// <param name="offset">Of the disk; a multiple of <see cref="BlockBytes"/>.</param>
    /// <param name="length">Whole blocks, or up to the end of the disk.</param>
    public void AddZeros(long offset, long length)
    {
        ThrowUnlessWhole(offset, length);
        var end = offset + length;
        while (offset < end)
        {
            if (offset % NodeBytes == 0 && end - offset >= NodeBytes)
            {
                // What was never mentioned is zero.
                offset += (end - offset) / NodeBytes * NodeBytes;
                continue;
            }

            var part = (int)Math.Min(BlockBytes, end - offset);
            Set(offset / BlockBytes, part == BlockBytes ? s_zeros[0] : SHA256.HashData(new byte[part]));
            offset += part;
        }
    }

    /// <summary>The digest, once everything was added.</summary>
    /// <returns>64 hexadecimal digits.</returns>
    public string Finish()
    {
        lock (_pending)
        {
            if (_pending.Count > 0)
            {
                throw new InvalidOperationException("parts of the disk were not added");
            }

            var count = (_blocks + FanOut - 1) / FanOut;
            var level = 1;
            while (count > 1)
            {
                (_nodes, count) = (Fold(_nodes, count, level), (count + FanOut - 1) / FanOut);
                level++;
            }

            // A disk of zeros whose last subtree is a full one was never mentioned at all.
            var root = _blocks == 0 ? SHA256.HashData([]) : _nodes.GetValueOrDefault(0) ?? s_zeros[level];
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            Span<byte> size = stackalloc byte[sizeof(long)];
            BinaryPrimitives.WriteInt64BigEndian(size, _size);
            hash.AppendData("platter digest 1\n"u8);
            hash.AppendData(size);
            hash.AppendData(root);
            return Convert.ToHexStringLower(hash.GetHashAndReset());
        }
    }

    private static byte[][] MakeZeros()
    {
        var result = new byte[MaxLevels][];
        result[0] = SHA256.HashData(new byte[BlockBytes]);
        for (var level = 1; level < MaxLevels; level++)
        {
            var children = new byte[FanOut * HashBytes];
            for (var i = 0; i < FanOut; i++)
            {
                result[level - 1].CopyTo(children, i * HashBytes);
            }

            result[level] = SHA256.HashData(children);
        }

        return result;
    }

    // One level up. Only the last node can have fewer children than all.
    private static Dictionary<long, byte[]> Fold(Dictionary<long, byte[]> nodes, long count, int level)
    {
        var result = new Dictionary<long, byte[]>();
        var parents = nodes.Keys.Select(index => index / FanOut).Append((count - 1) / FanOut).Distinct();
        var children = new byte[FanOut * HashBytes];
        foreach (var parent in parents)
        {
            var present = (int)Math.Min(FanOut, count - (parent * FanOut));
            for (var i = 0; i < present; i++)
            {
                (nodes.GetValueOrDefault((parent * FanOut) + i) ?? s_zeros[level]).CopyTo(children, i * HashBytes);
            }

            result[parent] = SHA256.HashData(children.AsSpan(0, present * HashBytes));
        }

        return result;
    }

    private void Set(long block, ReadOnlySpan<byte> hash)
    {
        var index = block / FanOut;
        lock (_pending)
        {
            if (!_pending.TryGetValue(index, out var node))
            {
                _pending.Add(index, node = new Pending((int)Math.Min(FanOut, _blocks - (index * FanOut))));
            }

            hash.CopyTo(node.Hashes.AsSpan((int)(block % FanOut) * HashBytes));
            if (--node.Missing == 0)
            {
                _pending.Remove(index);
                _nodes.Add(index, SHA256.HashData(node.Hashes));
            }
        }
    }

    private void ThrowUnlessWhole(long offset, long length)
    {
        if (offset % BlockBytes != 0 || (length % BlockBytes != 0 && offset + length != _size) || offset + length > _size)
        {
            throw new ArgumentException($"{length} bytes at {offset} are not whole blocks of the disk");
        }
    }

    private sealed class Pending(int count)
    {
        public byte[] Hashes { get; } = new byte[count * HashBytes];

        public int Missing { get; set; } = count;
    }
}
