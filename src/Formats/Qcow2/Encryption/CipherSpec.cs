using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption.Ciphers;
using Platter.Formats.Qcow2.Encryption.Hashes;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>How a LUKS volume encrypts: cipher, mode and vectors, in the words of its header, all of them supported.</summary>
/// <param name="Algorithm">"aes", "serpent", "twofish" or "cast5".</param>
/// <param name="DataKeyBytes">Bytes of the cipher's key; the master key is twice as long with XTS.</param>
/// <param name="Mode">"xts", "cbc", "ecb" or "ctr".</param>
/// <param name="IvGenerator">"plain", "plain64", "essiv", or empty with ECB, which has no use for one.</param>
/// <param name="IvHash">The hash that makes the key of "essiv"; otherwise null.</param>
internal sealed record CipherSpec(string Algorithm, int DataKeyBytes, string Mode, string IvGenerator, LuksHash? IvHash)
{
    /// <summary>Bytes of the master key.</summary>
    public int KeyBytes => Mode == "xts" ? 2 * DataKeyBytes : DataKeyBytes;

    /// <summary>As QEMU's options name it: "aes-256".</summary>
    public string CipherAlg => $"{Algorithm}-{DataKeyBytes * 8}";

    /// <summary>Reads the names in a LUKS header.</summary>
    /// <param name="file">The file, for errors.</param>
    /// <param name="at">Where the header is, for errors.</param>
    /// <param name="cipherName">The header's cipher-name.</param>
    /// <param name="cipherMode">The header's cipher-mode: "xts-plain64", "cbc-essiv:sha256".</param>
    /// <param name="keyBytes">The header's key-bytes.</param>
    /// <exception cref="ImageFormatException"><see cref="BlockErrorKind.Unsupported"/>: something we do not do;
    /// <see cref="BlockErrorKind.CorruptImage"/>: the parts do not fit together.</exception>
    public static CipherSpec Parse(string file, HostOffset at, string cipherName, string cipherMode, long keyBytes)
    {
        if (cipherName is not ("aes" or "serpent" or "twofish" or "cast5"))
        {
            throw Unsupported("cipher-name", cipherName, "only aes, serpent, twofish and cast5 are supported");
        }

        var (mode, generator, hashName) = SplitMode(cipherMode);
        if (mode is not ("xts" or "cbc" or "ecb" or "ctr"))
        {
            throw Unsupported("cipher-mode", cipherMode, "only the modes xts, cbc, ecb and ctr are supported");
        }

        if (mode == "xts" && cipherName == "cast5")
        {
            throw Unsupported("cipher-mode", cipherMode, "xts needs a cipher with blocks of 16 bytes, and cast5 has 8");
        }

        if (generator is not ("plain" or "plain64" or "essiv") && !(mode == "ecb" && generator.Length == 0))
        {
            throw Unsupported("cipher-mode", cipherMode, "only the vectors plain, plain64 and essiv are supported");
        }

        LuksHash? hash = null;
        if (generator == "essiv")
        {
            hash = LuksHash.Find(hashName);
            if (hash is null || !IsKeySize(cipherName, hash.DigestBytes))
            {
                throw Unsupported("cipher-mode", cipherMode, $"essiv needs a hash whose digest is a key of {cipherName}");
            }
        }

        var dataKeyBytes = mode == "xts" ? keyBytes / 2 : keyBytes;
        if ((mode == "xts" && keyBytes % 2 != 0) || !IsKeySize(cipherName, dataKeyBytes))
        {
            throw new ImageFormatException(
                file, "LUKS header", at, "key-bytes", $"{keyBytes}", $"is no key size of {cipherName} in mode {mode}");
        }

        return new(cipherName, (int)dataKeyBytes, mode, generator, hash);

        ImageFormatException Unsupported(string field, string value, string problem) =>
            new(file, "LUKS header", at, field, $"\"{value}\"", problem, BlockErrorKind.Unsupported);
    }

    /// <summary>Takes "MODE-GENERATOR:HASH" apart; what is missing is empty. Nothing is judged.</summary>
    public static (string Mode, string IvGenerator, string IvHash) SplitMode(string cipherMode)
    {
        var dash = cipherMode.IndexOf('-', StringComparison.Ordinal);
        if (dash < 0)
        {
            return (cipherMode, string.Empty, string.Empty);
        }

        var vectors = cipherMode[(dash + 1)..];
        var colon = vectors.IndexOf(':', StringComparison.Ordinal);
        return colon < 0
            ? (cipherMode[..dash], vectors, string.Empty)
            : (cipherMode[..dash], vectors[..colon], vectors[(colon + 1)..]);
    }

    /// <summary>The cipher with its key.</summary>
    /// <param name="key"><see cref="KeyBytes"/> bytes.</param>
    /// <param name="engine">Which implementation of AES to use.</param>
    public SectorCipher CreateCipher(ReadOnlySpan<byte> key, AesEngine engine = AesEngine.Fastest)
    {
        if (key.Length != KeyBytes)
        {
            throw new ArgumentException($"The key has {key.Length} bytes instead of {KeyBytes}.", nameof(key));
        }

        var data = CreateBlockCipher(key[..DataKeyBytes], engine);
        return Mode switch
        {
            "xts" => CreateXts(data, CreateBlockCipher(key[DataKeyBytes..], engine), CreateVectors(key, engine)),
            "cbc" => new CbcSectorCipher(data, CreateVectors(key, engine)),
            "ctr" => new CtrSectorCipher(data, CreateVectors(key, engine)),
            _ => new EcbSectorCipher(data),
        };
    }

    private static SectorCipher CreateXts(BlockCipher data, BlockCipher tweak, IvGenerator vectors) =>
        data is AesNiBlockCipher fastData && tweak is AesNiBlockCipher fastTweak
            ? new AesNiXtsSectorCipher(fastData, fastTweak, vectors)
            : new XtsSectorCipher(data, tweak, vectors);

    // The key of essiv is a digest of the whole master key, both halves with XTS.
    private IvGenerator CreateVectors(ReadOnlySpan<byte> key, AesEngine engine)
    {
        if (IvHash is null)
        {
            return IvGenerator == "plain" ? Encryption.IvGenerator.Plain : Encryption.IvGenerator.Plain64;
        }

        Span<byte> saltKey = stackalloc byte[LuksHash.MaxDigestBytes];
        IvHash.Hash(key, saltKey);
        return Encryption.IvGenerator.Essiv(CreateBlockCipher(saltKey[..IvHash.DigestBytes], engine));
    }

    private BlockCipher CreateBlockCipher(ReadOnlySpan<byte> key, AesEngine engine) => Algorithm switch
    {
        "aes" => AesEngines.Create(key, engine),
        "serpent" => new SerpentBlockCipher(key),
        "twofish" => new TwofishBlockCipher(key),
        _ => new Cast5BlockCipher(key),
    };

    private static bool IsKeySize(string algorithm, long bytes) => bytes == 16 || (algorithm != "cast5" && bytes is (24 or 32));
}
