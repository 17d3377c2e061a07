using System.Buffers.Binary;
using Platter.Formats.Qcow2.Encryption.Ciphers;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>Makes the initialisation vector of a sector from its number.</summary>
/// <remarks>The generators of LUKS ("plain", "plain64", "essiv:HASH"). Thread-safe; calls allocate nothing.</remarks>
internal abstract class IvGenerator
{
    /// <summary>Writes the vectors of consecutive sectors, one after the other.</summary>
    /// <param name="firstSector">Number of the first sector.</param>
    /// <param name="vectors">Room for a whole number of vectors.</param>
    /// <param name="vectorBytes">Bytes in a vector: the block size of the data cipher.</param>
    public abstract void Fill(ulong firstSector, Span<byte> vectors, int vectorBytes);

    /// <summary>The sector number as 64 bits, little-endian, followed by zeros.</summary>
    public static IvGenerator Plain64 { get; } = new PlainGenerator(ulong.MaxValue);

    /// <summary>The low 32 bits of the sector number, little-endian, followed by zeros.</summary>
    public static IvGenerator Plain { get; } = new PlainGenerator(uint.MaxValue);

    /// <summary>The plain64 vector encrypted with <paramref name="saltCipher"/>, whose key is a hash of the data key.</summary>
    public static IvGenerator Essiv(BlockCipher saltCipher) => new EssivGenerator(saltCipher);

    private sealed class PlainGenerator(ulong mask) : IvGenerator
    {
        public override void Fill(ulong firstSector, Span<byte> vectors, int vectorBytes)
        {
            vectors.Clear();
            for (var at = 0; at < vectors.Length; at += vectorBytes)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(vectors[at..], firstSector++ & mask);
            }
        }
    }

    private sealed class EssivGenerator(BlockCipher saltCipher) : IvGenerator
    {
        public override void Fill(ulong firstSector, Span<byte> vectors, int vectorBytes)
        {
            Plain64.Fill(firstSector, vectors, vectorBytes);
            saltCipher.Encrypt(vectors, vectors);
        }
    }
}
