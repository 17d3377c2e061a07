using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>One of the eight key slots in a LUKS header: the master key, encrypted with a password. Big-endian.</summary>
/// <remarks>Spec: LUKS on-disk format 1.2.3, figure 2.</remarks>
/// <param name="State">active: <see cref="ActiveState"/> or <see cref="InactiveState"/>.</param>
/// <param name="Iterations">iterations: of PBKDF2.</param>
/// <param name="Salt">salt: of PBKDF2, 32 bytes.</param>
/// <param name="KeyMaterialOffsetSectors">key-material-offset: 512-byte sectors from the start of the LUKS header.</param>
/// <param name="Stripes">stripes: of the anti-forensic splitter.</param>
internal readonly record struct LuksKeySlot(
    uint State, uint Iterations, ReadOnlyMemory<byte> Salt, uint KeyMaterialOffsetSectors, uint Stripes)
{
    public const int Size = 48;
    public const uint ActiveState = 0x00ac71f3, InactiveState = 0x0000dead;

    /// <summary>Bytes of key material that may be read for a slot; 4000 stripes of the longest key are half of it.</summary>
    public const int MaxMaterialBytes = 512 * 1024;

    private const int StateAt = 0, IterationsAt = 4, SaltAt = 8, SaltSize = 32, KeyMaterialOffsetAt = 40, StripesAt = 44;

    /// <summary>Whether a password opens it.</summary>
    public bool IsActive => State == ActiveState;

    /// <summary>Where the key material is, in bytes from the start of the LUKS header.</summary>
    public long KeyMaterialOffset => (long)KeyMaterialOffsetSectors * Sizes.SectorBytes;

    /// <summary>Bytes of key material, in whole sectors (as cryptsetup stores it; the rest of the last one is padding).</summary>
    public long MaterialBytes(int keyBytes) => Sizes.DivideRoundingUp(Stripes * (long)keyBytes, Sizes.SectorBytes) * Sizes.SectorBytes;

    /// <summary>Reads a slot from its 48 bytes.</summary>
    public static LuksKeySlot Parse(ReadOnlySpan<byte> bytes) => new(
        State: BinaryPrimitives.ReadUInt32BigEndian(bytes[StateAt..]),
        Iterations: BinaryPrimitives.ReadUInt32BigEndian(bytes[IterationsAt..]),
        Salt: bytes.Slice(SaltAt, SaltSize).ToArray(),
        KeyMaterialOffsetSectors: BinaryPrimitives.ReadUInt32BigEndian(bytes[KeyMaterialOffsetAt..]),
        Stripes: BinaryPrimitives.ReadUInt32BigEndian(bytes[StripesAt..]));

    /// <summary>Writes the slot to its 48 bytes.</summary>
    public void WriteTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(bytes[StateAt..], State);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[IterationsAt..], Iterations);
        Salt.Span.CopyTo(bytes.Slice(SaltAt, SaltSize));
        BinaryPrimitives.WriteUInt32BigEndian(bytes[KeyMaterialOffsetAt..], KeyMaterialOffsetSectors);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[StripesAt..], Stripes);
    }

    /// <summary>Judges the values. Inactive slots may hold anything: nobody reads their key material.</summary>
    /// <param name="file">The file, for errors.</param>
    /// <param name="index">Number of the slot, for errors.</param>
    /// <param name="at">Host offset of the slot, for errors.</param>
    /// <param name="keyBytes">Size of the master key.</param>
    /// <param name="headerLength">Bytes that header and key material may take.</param>
    public void Validate(string file, int index, HostOffset at, int keyBytes, long headerLength)
    {
        if (State == InactiveState)
        {
            return;
        }

        if (!IsActive)
        {
            throw Bad("active", $"0x{State:x8}", "is neither active nor inactive");
        }

        if (Iterations == 0)
        {
            throw Bad("iterations", "0", "must be at least 1");
        }

        if (Stripes == 0)
        {
            throw Bad("stripes", "0", "must be at least 1");
        }

        if (MaterialBytes(keyBytes) > MaxMaterialBytes)
        {
            throw Bad("stripes", $"{Stripes}", $"key material of more than {MaxMaterialBytes} bytes", BlockErrorKind.LimitExceeded);
        }

        if (KeyMaterialOffset < LuksHeader.Size)
        {
            throw Bad("key-material-offset", $"{KeyMaterialOffsetSectors}", "key material overlaps the header");
        }

        if (KeyMaterialOffset + MaterialBytes(keyBytes) > headerLength)
        {
            throw Bad("key-material-offset", $"{KeyMaterialOffsetSectors}", $"key material ends behind the {headerLength} bytes of the header");
        }

        ImageFormatException Bad(string field, string value, string problem, BlockErrorKind kind = BlockErrorKind.CorruptImage) =>
            new(file, $"LUKS key slot {index}", at, field, value, problem, kind);
    }
}
