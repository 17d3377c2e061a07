using System.Buffers.Binary;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>Header of a LUKS version 1 volume; all numbers are big-endian.</summary>
/// <remarks>Spec: LUKS on-disk format 1.2.3, figure 1; where qcow2 keeps it: its "Full disk encryption header pointer".</remarks>
internal sealed record LuksHeader
{
    public const int Size = 592;
    public const int SlotCount = 8;
    public const ushort SupportedVersion = 1;

    private const int VersionAt = 6, CipherNameAt = 8, CipherModeAt = 40, HashSpecAt = 72, PayloadOffsetAt = 104, KeyBytesAt = 108;
    private const int DigestAt = 112, DigestSaltAt = 132, DigestIterationsAt = 164, UuidAt = 168, SlotsAt = 208;
    private const int NameSize = 32, DigestSize = 20, SaltSize = 32, UuidSize = 40;
    private const int MaxKeyBytes = 64;

    private static ReadOnlySpan<byte> Magic => [(byte)'L', (byte)'U', (byte)'K', (byte)'S', 0xba, 0xbe];

    /// <summary>version.</summary>
    public ushort Version { get; init; } = SupportedVersion;

    /// <summary>cipher-name: "aes".</summary>
    public required string CipherName { get; init; }

    /// <summary>cipher-mode: "xts-plain64".</summary>
    public required string CipherMode { get; init; }

    /// <summary>hash-spec: of PBKDF2, the splitter and the digest; "sha256".</summary>
    public required string HashSpec { get; init; }

    /// <summary>payload-offset: 512-byte sectors from the start of the LUKS header. qcow2 does not use it.</summary>
    public required uint PayloadOffsetSectors { get; init; }

    /// <summary>key-bytes: of the master key.</summary>
    public required uint KeyBytes { get; init; }

    /// <summary>mk-digest: by which the right master key is known, 20 bytes.</summary>
    public required ReadOnlyMemory<byte> MasterKeyDigest { get; init; }

    /// <summary>mk-digest-salt: 32 bytes.</summary>
    public required ReadOnlyMemory<byte> MasterKeyDigestSalt { get; init; }

    /// <summary>mk-digest-iter: of PBKDF2.</summary>
    public required uint MasterKeyDigestIterations { get; init; }

    /// <summary>uuid, as text.</summary>
    public required string Uuid { get; init; }

    /// <summary>The eight key slots.</summary>
    public required IReadOnlyList<LuksKeySlot> Slots { get; init; }

    /// <summary>As QEMU's <c>info</c> names cipher and key size: "aes-256". Of an unsupported cipher too.</summary>
    public string CipherAlg => $"{CipherName}-{(Mode == "xts" ? KeyBytes / 2 : KeyBytes) * 8}";

    /// <summary>The mode alone: "xts".</summary>
    public string Mode => CipherSpec.SplitMode(CipherMode).Mode;

    /// <summary>How vectors are made: "plain64"; empty if the header does not say.</summary>
    public string IvGenAlg => CipherSpec.SplitMode(CipherMode).IvGenerator;

    /// <summary>The hash of "essiv"; null with any other vectors, even if the header names one.</summary>
    public string? IvGenHashAlg => IvGenAlg == "essiv" ? CipherSpec.SplitMode(CipherMode).IvHash : null;

    /// <summary>Where the payload would start in a volume of its own, in bytes from the start of the header.</summary>
    public long PayloadOffset => (long)PayloadOffsetSectors * Sizes.SectorBytes;

    /// <summary>Where a key slot is, in bytes from the start of the header.</summary>
    public static int SlotOffset(int index) => SlotsAt + (index * LuksKeySlot.Size);

    /// <summary>Reads a header; only magic and version are judged, because the rest depends on them.</summary>
    /// <param name="bytes">At least <see cref="Size"/> bytes.</param>
    /// <param name="file">The file, for errors.</param>
    /// <param name="at">Where the bytes come from, for errors.</param>
    /// <exception cref="ImageFormatException">Too short, no LUKS header, or not version 1.</exception>
    public static LuksHeader Parse(ReadOnlySpan<byte> bytes, string file, HostOffset at)
    {
        ImageFormatException.ThrowIfShort(bytes, Size, file, "LUKS header", at);
        if (!bytes.StartsWith(Magic))
        {
            throw new ImageFormatException(
                file, "LUKS header", at, "magic", Convert.ToHexStringLower(bytes[..Magic.Length]), "is not the magic of LUKS");
        }

        var version = BinaryPrimitives.ReadUInt16BigEndian(bytes[VersionAt..]);
        if (version != SupportedVersion)
        {
            throw new ImageFormatException(
                file, "LUKS header", at, "version", $"{version}", "only version 1 is supported", BlockErrorKind.Unsupported);
        }

        var slots = new LuksKeySlot[SlotCount];
        for (var i = 0; i < slots.Length; i++)
        {
            slots[i] = LuksKeySlot.Parse(bytes.Slice(SlotOffset(i), LuksKeySlot.Size));
        }

        return new()
        {
            Version = version,
            CipherName = ReadText(bytes, CipherNameAt, NameSize),
            CipherMode = ReadText(bytes, CipherModeAt, NameSize),
            HashSpec = ReadText(bytes, HashSpecAt, NameSize),
            PayloadOffsetSectors = BinaryPrimitives.ReadUInt32BigEndian(bytes[PayloadOffsetAt..]),
            KeyBytes = BinaryPrimitives.ReadUInt32BigEndian(bytes[KeyBytesAt..]),
            MasterKeyDigest = bytes.Slice(DigestAt, DigestSize).ToArray(),
            MasterKeyDigestSalt = bytes.Slice(DigestSaltAt, SaltSize).ToArray(),
            MasterKeyDigestIterations = BinaryPrimitives.ReadUInt32BigEndian(bytes[DigestIterationsAt..]),
            Uuid = ReadText(bytes, UuidAt, UuidSize),
            Slots = slots,
        };
    }

    /// <summary>Writes the header to <see cref="Size"/> bytes.</summary>
    public void WriteTo(Span<byte> bytes)
    {
        bytes[..Size].Clear();
        Magic.CopyTo(bytes);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[VersionAt..], Version);
        Encoding.Latin1.GetBytes(CipherName, bytes.Slice(CipherNameAt, NameSize));
        Encoding.Latin1.GetBytes(CipherMode, bytes.Slice(CipherModeAt, NameSize));
        Encoding.Latin1.GetBytes(HashSpec, bytes.Slice(HashSpecAt, NameSize));
        BinaryPrimitives.WriteUInt32BigEndian(bytes[PayloadOffsetAt..], PayloadOffsetSectors);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[KeyBytesAt..], KeyBytes);
        MasterKeyDigest.Span.CopyTo(bytes.Slice(DigestAt, DigestSize));
        MasterKeyDigestSalt.Span.CopyTo(bytes.Slice(DigestSaltAt, SaltSize));
        BinaryPrimitives.WriteUInt32BigEndian(bytes[DigestIterationsAt..], MasterKeyDigestIterations);
        Encoding.Latin1.GetBytes(Uuid, bytes.Slice(UuidAt, UuidSize));
        for (var i = 0; i < SlotCount; i++)
        {
            Slots[i].WriteTo(bytes.Slice(SlotOffset(i), LuksKeySlot.Size));
        }
    }

    /// <summary>Judges everything that does not depend on which ciphers and hashes we can do.</summary>
    /// <param name="file">The file, for errors.</param>
    /// <param name="at">Host offset of the header.</param>
    /// <param name="headerLength">Bytes that header and key material may take, as the qcow2 header extension says.</param>
    /// <exception cref="ImageFormatException"><see cref="BlockErrorKind.CorruptImage"/> or <see cref="BlockErrorKind.LimitExceeded"/>.</exception>
    public void Validate(string file, HostOffset at, long headerLength)
    {
        CheckText("cipher-name", CipherName, NameSize);
        CheckText("cipher-mode", CipherMode, NameSize);
        CheckText("hash-spec", HashSpec, NameSize);
        CheckText("uuid", Uuid, UuidSize);
        if (KeyBytes is 0 or > MaxKeyBytes)
        {
            throw Bad("key-bytes", $"{KeyBytes}", $"must be between 1 and {MaxKeyBytes}");
        }

        if (MasterKeyDigestIterations == 0)
        {
            throw Bad("mk-digest-iter", "0", "must be at least 1");
        }

        for (var i = 0; i < SlotCount; i++)
        {
            Slots[i].Validate(file, i, at + SlotOffset(i), (int)KeyBytes, headerLength);
            for (var other = 0; other < i; other++)
            {
                if (Overlap(Slots[i], Slots[other]))
                {
                    throw Bad("key-material-offset", $"{Slots[i].KeyMaterialOffsetSectors}", $"the key material of slots {other} and {i} overlaps");
                }
            }
        }

        void CheckText(string field, string text, int size)
        {
            // A field without its terminating zero was read in full.
            if (text.Length == size || text.AsSpan().ContainsAnyExceptInRange(' ', '~'))
            {
                throw Bad(field, $"\"{SafeText.Clean(text)}\"", "is not a zero-terminated name");
            }
        }

        ImageFormatException Bad(string field, string value, string problem) => new(file, "LUKS header", at, field, value, problem);
    }

    private bool Overlap(LuksKeySlot left, LuksKeySlot right) =>
        left.IsActive && right.IsActive
        && left.KeyMaterialOffset < right.KeyMaterialOffset + right.MaterialBytes((int)KeyBytes)
        && right.KeyMaterialOffset < left.KeyMaterialOffset + left.MaterialBytes((int)KeyBytes);

    private static string ReadText(ReadOnlySpan<byte> bytes, int at, int size)
    {
        var field = bytes.Slice(at, size);
        var end = field.IndexOf((byte)0);
        return Encoding.Latin1.GetString(end < 0 ? field : field[..end]);
    }
}
