using System.Diagnostics;
using System.Security.Cryptography;

namespace Platter.Formats.Qcow2.Encryption.Ciphers;

/// <summary>AES through the platform's library, for processors without the instructions we know.</summary>
/// <remarks>The library's objects are neither thread-safe nor free of allocations when used once, so a few are kept:
/// a call takes one, or makes one when all are taken, and gives it back.</remarks>
internal sealed class PortableAesBlockCipher : BlockCipher
{
    private const int BatchBytes = 8192;

    private readonly byte[] _key;
    private readonly Lock _gate = new();
    private readonly Stack<Worker> _idle = new();

    /// <summary>Takes a key of 16, 24 or 32 bytes.</summary>
    public PortableAesBlockCipher(ReadOnlySpan<byte> key)
    {
        Debug.Assert(key.Length is 16 or 24 or 32);
        _key = key.ToArray();
    }

    /// <inheritdoc/>
    public override int BlockBytes => 16;

    /// <inheritdoc/>
    public override void Encrypt(ReadOnlySpan<byte> source, Span<byte> destination) => Run(source, destination, encrypt: true);

    /// <inheritdoc/>
    public override void Decrypt(ReadOnlySpan<byte> source, Span<byte> destination) => Run(source, destination, encrypt: false);

    private void Run(ReadOnlySpan<byte> source, Span<byte> destination, bool encrypt)
    {
        var worker = Take();
        var transform = encrypt ? worker.Encryptor : worker.Decryptor;
        while (!source.IsEmpty)
        {
            var count = Math.Min(source.Length, BatchBytes);
            source[..count].CopyTo(worker.Buffer);
            transform.TransformBlock(worker.Buffer, 0, count, worker.Buffer, 0);
            worker.Buffer.AsSpan(0, count).CopyTo(destination);
            source = source[count..];
            destination = destination[count..];
        }

        lock (_gate)
        {
            _idle.Push(worker);
        }
    }

    private Worker Take()
    {
        lock (_gate)
        {
            if (_idle.TryPop(out var idle))
            {
                return idle;
            }
        }

        using var aes = Aes.Create();
        aes.Mode = CipherMode.ECB;
        aes.Padding = PaddingMode.None;
        aes.Key = _key;
        return new(aes.CreateEncryptor(), aes.CreateDecryptor());
    }

    private sealed record Worker(ICryptoTransform Encryptor, ICryptoTransform Decryptor)
    {
        public byte[] Buffer { get; } = new byte[BatchBytes];
    }
}
