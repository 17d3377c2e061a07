using Platter.Formats.Qcow2.Encryption.Ciphers;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Encryption;

/// <summary>The bare block ciphers against published vectors, and against themselves where batches could go wrong.</summary>
public class BlockCipherTests
{
    [Theory]
    [InlineData("000102030405060708090a0b0c0d0e0f", "69c4e0d86a7b0430d8cdb78070b4c55a")]
    [InlineData("000102030405060708090a0b0c0d0e0f1011121314151617", "dda97ca4864cdfe06eaf70a0ec0d7191")]
    [InlineData("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "8ea2b7ca516745bfeafc49904b496089")]
    public void Aes_gives_the_examples_of_FIPS_197(string key, string ciphertext)
    {
        Check(new PortableAesBlockCipher(Hex(key)), "00112233445566778899aabbccddeeff", ciphertext);
        if (AesNiBlockCipher.IsSupported)
        {
            Check(new AesNiBlockCipher(Hex(key)), "00112233445566778899aabbccddeeff", ciphertext);
        }
    }

    // NESSIE test vectors, set 1 vector 0 for each key size.
    [Theory]
    [InlineData("80000000000000000000000000000000", "00000000000000000000000000000000", "264e5481eff42a4606abda06c0bfda3d")]
    [InlineData("800000000000000000000000000000000000000000000000", "00000000000000000000000000000000", "9e274ead9b737bb21efcfca548602689")]
    [InlineData("8000000000000000000000000000000000000000000000000000000000000000", "00000000000000000000000000000000", "a223aa1288463c0e2be38ebd825616c0")]
    public void Serpent_gives_the_vectors_of_NESSIE(string key, string plaintext, string ciphertext) =>
        Check(new SerpentBlockCipher(Hex(key)), plaintext, ciphertext);

    // Appendix A.1 of the Twofish paper ("full encryptions").
    [Theory]
    [InlineData("00000000000000000000000000000000", "9f589f5cf6122c32b6bfec2f2ae8c35a")]
    [InlineData("0123456789abcdeffedcba98765432100011223344556677", "cfd1d2e5a9be9cdf501f13b892bd2248")]
    [InlineData("0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff", "37527be0052334b89f0cfccae87cfa20")]
    public void Twofish_gives_the_examples_of_its_paper(string key, string ciphertext) =>
        Check(new TwofishBlockCipher(Hex(key)), "00000000000000000000000000000000", ciphertext);

    // The paper's tables chain: each plaintext is the last ciphertext, each key is made of the ciphertexts before. Entry I=49.
    [Theory]
    [InlineData(16, "5d9d4eeffa9151575524f115815a12e0")]
    [InlineData(24, "e75449212beef9f4a390bd860a640941")]
    [InlineData(32, "37fe26ff1cf66175f5ddf4c33b97a205")]
    public void Twofish_gives_the_49th_entry_of_its_tables(int keyBytes, string ciphertext)
    {
        // K_i is the first N bits of C_(i-2) || C_(i-3) || ..., P_i = C_(i-1); everything before is zero.
        var key = new byte[keyBytes];
        var plain = new byte[16];
        var output = new byte[16];
        for (var i = 1; i <= 49; i++)
        {
            new TwofishBlockCipher(key).Encrypt(plain, output);
            key = [.. plain, .. key.AsSpan(0, keyBytes - 16)];
            plain = [.. output];
        }

        Assert.Equal(ciphertext, Convert.ToHexStringLower(output));
    }

    [Fact]
    public void Cast5_gives_the_example_of_RFC_2144() =>
        Check(new Cast5BlockCipher(Hex("0123456712345678234567893456789a")), "0123456789abcdef", "238b4fe5847e44b2");

    // Appendix B.2, which passes every entry of the tables.
    [Fact]
    public void Cast5_passes_the_maintenance_test_of_RFC_2144()
    {
        var a = Hex("0123456712345678234567893456789a");
        var b = Hex("0123456712345678234567893456789a");
        for (var i = 0; i < 1_000_000; i++)
        {
            new Cast5BlockCipher(b).Encrypt(a, a);
            new Cast5BlockCipher(a).Encrypt(b, b);
        }

        Assert.Equal("eea9d0a249fd3ba6b3436fb89d6dca92", Convert.ToHexStringLower(a));
        Assert.Equal("b2c95eb00c31ad7180ac05b8e83d696e", Convert.ToHexStringLower(b));
    }

    [Theory]
    [InlineData("aesni")]
    [InlineData("aes")]
    [InlineData("serpent")]
    [InlineData("twofish")]
    [InlineData("cast5")]
    public void Many_blocks_at_once_are_the_same_as_one_by_one_and_come_back(string name)
    {
        Assert.SkipWhen(name == "aesni" && !AesNiBlockCipher.IsSupported, "this processor has no AES instructions");
        var random = new Random(4711);
        foreach (var keyBytes in name == "cast5" ? [16] : new[] { 16, 24, 32 })
        {
            var key = new byte[keyBytes];
            random.NextBytes(key);
            BlockCipher cipher = name switch
            {
                "aesni" => new AesNiBlockCipher(key),
                "aes" => new PortableAesBlockCipher(key),
                "serpent" => new SerpentBlockCipher(key),
                "twofish" => new TwofishBlockCipher(key),
                _ => new Cast5BlockCipher(key),
            };
            foreach (var blocks in (int[])[0, 1, 2, 7, 8, 9, 15, 16, 17, 33, 1025])
            {
                var plain = new byte[blocks * cipher.BlockBytes];
                random.NextBytes(plain);
                var together = new byte[plain.Length];
                cipher.Encrypt(plain, together);
                var single = (byte[])plain.Clone();
                for (var at = 0; at < plain.Length; at += cipher.BlockBytes)
                {
                    cipher.Encrypt(single.AsSpan(at, cipher.BlockBytes), single.AsSpan(at, cipher.BlockBytes));
                }

                Assert.Equal(single, together);
                var back = new byte[plain.Length];
                cipher.Decrypt(together, back);
                Assert.Equal(plain, back);
                cipher.Decrypt(together, together);
                Assert.Equal(plain, together);
            }
        }
    }

    [Fact]
    public void The_two_implementations_of_aes_agree()
    {
        Assert.SkipUnless(AesNiBlockCipher.IsSupported, "this processor has no AES instructions");
        var random = new Random(815);
        foreach (var keyBytes in (int[])[16, 24, 32])
        {
            for (var round = 0; round < 50; round++)
            {
                var key = new byte[keyBytes];
                random.NextBytes(key);
                var data = new byte[16 * random.Next(1, 40)];
                random.NextBytes(data);
                var fast = new byte[data.Length];
                var portable = new byte[data.Length];
                new AesNiBlockCipher(key).Encrypt(data, fast);
                new PortableAesBlockCipher(key).Encrypt(data, portable);
                Assert.Equal(portable, fast);
                new AesNiBlockCipher(key).Decrypt(data, fast);
                new PortableAesBlockCipher(key).Decrypt(data, portable);
                Assert.Equal(portable, fast);
            }
        }
    }

    internal static byte[] Hex(string text) => Convert.FromHexString(text.Replace(" ", string.Empty, StringComparison.Ordinal));

    private static void Check(BlockCipher cipher, string plaintext, string ciphertext)
    {
        var block = Hex(plaintext);
        cipher.Encrypt(block, block);
        Assert.Equal(ciphertext, Convert.ToHexStringLower(block));
        cipher.Decrypt(block, block);
        Assert.Equal(plaintext, Convert.ToHexStringLower(block));
    }
}
