namespace Platter.Formats.Qcow2.Encryption.Ciphers;

/// <summary>Which implementation of AES to use.</summary>
internal enum AesEngine
{
    /// <summary>The processor's instructions where we know them, else the platform's library.</summary>
    Fastest,

    /// <summary>The platform's library in any case; for tests and comparison.</summary>
    Portable,
}

/// <summary>Makes AES block ciphers.</summary>
internal static class AesEngines
{
    /// <summary>AES with a key of 16, 24 or 32 bytes.</summary>
    public static BlockCipher Create(ReadOnlySpan<byte> key, AesEngine engine) =>
        engine == AesEngine.Fastest && AesNiBlockCipher.IsSupported ? new AesNiBlockCipher(key) : new PortableAesBlockCipher(key);
}
