using System.Buffers.Binary;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption;
using Platter.Formats.Qcow2.Encryption.Ciphers;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Encryption;

/// <summary>Modes and vectors against published examples, and every combination against a plain restatement of the mode.</summary>
public class SectorCipherTests
{
    private static readonly string[] Modes =
        ["xts-plain", "xts-plain64", "xts-essiv:sha256", "cbc-plain", "cbc-plain64", "cbc-essiv:sha256", "cbc-essiv:md5", "ctr-plain64", "ecb", "ecb-plain64"];

    public static TheoryData<string, int, string> Combinations()
    {
        var data = new TheoryData<string, int, string>();
        foreach (var mode in Modes)
        {
            foreach (var algorithm in (string[])["aes", "serpent", "twofish"])
            {
                foreach (var keyBytes in (int[])[16, 24, 32])
                {
                    data.Add(algorithm, mode.StartsWith("xts", StringComparison.Ordinal) ? 2 * keyBytes : keyBytes, mode);
                }
            }
        }

        foreach (var mode in (string[])["cbc-plain", "cbc-plain64", "cbc-essiv:md5", "ctr-plain64", "ecb-plain64"])
        {
            data.Add("cast5", 16, mode);
        }

        return data;
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Xts_gives_the_vectors_of_IEEE_1619(bool portable)
    {
        // Vector 1 is only 32 bytes long, but the blocks of a data unit do not depend on those after them.
        var data = new byte[512];
        Spec("aes", 32, "xts-plain64").CreateCipher(new byte[32], Engine(portable)).EncryptSectors(data, 0);
        Assert.Equal("917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e", Convert.ToHexStringLower(data.AsSpan(0, 32)));

        // Vector 4.
        Counting(data);
        Spec("aes", 32, "xts-plain64")
            .CreateCipher(BlockCipherTests.Hex("2718281828459045235360287471352631415926535897932384626433832795"), Engine(portable)).EncryptSectors(data, 0);
        Assert.Equal(
            "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89cc78cf7f5e543445f8333d8fa7f56000005279fa5d8b5e4ad40e736ddb4d35412"
            + "328063fd2aab53e5ea1e0a9f332500a5df9487d07a5c92cc512c8866c7e860ce93fdf166a24912b422976146ae20ce846bb7dc9ba94a767aaef20c0d61ad0265"
            + "5ea92dc4c4e41a8952c651d33174be51a10c421110e6d81588ede82103a252d8a750e8768defffed9122810aaeb99f9172af82b604dc4b8e51bcb08235a6f434"
            + "1332e4ca60482a4ba1a03b3e65008fc5da76b70bf1690db4eae29c5f1badd03c5ccf2a55d705ddcd86d449511ceb7ec30bf12b1fa35b913f9f747a8afd1b130e"
            + "94bff94effd01a91735ca1726acd0b197c4e5b03393697e126826fb6bbde8ecc1e08298516e2c9ed03ff3c1b7860f6de76d4cecd94c8119855ef5297ca67e9f3"
            + "e7ff72b1e99785ca0a7e7720c5b36dc6d72cac9574c8cbbc2f801e23e56fd344b07f22154beba0f08ce8891e643ed995c94d9a69c9f1b5f499027a78572aeebd"
            + "74d20cc39881c213ee770b1010e4bea718846977ae119f7a023ab58cca0ad752afe656bb3c17256a9f6e9bf19fdd5a38fc82bbe872c5539edb609ef4f79c203e"
            + "bb140f2e583cb2ad15b4aa5b655016a8449277dbd477ef2c8d6c017db738b18deb4a427d1923ce3ff262735779a418f20a282df920147beabe421ee5319d0568",
            Convert.ToHexStringLower(data));

        // Vector 10: 256-bit keys, data unit 0xff.
        Counting(data);
        var cipher = Spec("aes", 64, "xts-plain64").CreateCipher(
            BlockCipherTests.Hex(
                "2718281828459045235360287471352662497757247093699959574966967627"
                + "3141592653589793238462643383279502884197169399375105820974944592"),
            Engine(portable));
        cipher.EncryptSectors(data, 0xff);
        Assert.Equal("1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b", Convert.ToHexStringLower(data.AsSpan(0, 32)));
        cipher.DecryptSectors(data, 0xff);
        var plain = new byte[512];
        Counting(plain);
        Assert.Equal(plain, data);
    }

    // SP 800-38A, F.2.1 and F.5.1; their vectors are not those of any sector, so a generator is made for them.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Cbc_and_ctr_give_the_examples_of_NIST(bool portable)
    {
        var aes = AesEngines.Create(BlockCipherTests.Hex("2b7e151628aed2a6abf7158809cf4f3c"), Engine(portable));
        var plain = BlockCipherTests.Hex(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
        var data = new byte[512];

        plain.CopyTo(data, 0);
        new CbcSectorCipher(aes, new FixedVector("000102030405060708090a0b0c0d0e0f")).EncryptSectors(data, 0);
        Assert.Equal(
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
            Convert.ToHexStringLower(data.AsSpan(0, 64)));

        data.AsSpan().Clear();
        plain.CopyTo(data, 0);
        new CtrSectorCipher(aes, new FixedVector("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")).EncryptSectors(data, 0);
        Assert.Equal(
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
            Convert.ToHexStringLower(data.AsSpan(0, 64)));
    }

    [Theory]
    [MemberData(nameof(Combinations))]
    public void Batches_are_the_same_as_the_mode_written_out_and_come_back(string algorithm, int keyBytes, string mode)
    {
        var random = new Random(HashCode.Combine(keyBytes, mode.Length));
        var key = new byte[keyBytes];
        random.NextBytes(key);
        var spec = Spec(algorithm, keyBytes, mode);
        foreach (var engine in algorithm == "aes" ? new[] { AesEngine.Fastest, AesEngine.Portable } : [AesEngine.Fastest])
        {
            var cipher = spec.CreateCipher(key, engine);

            // Sector numbers around where 32 bits end, to tell plain from plain64.
            foreach (var (sectors, first) in new[] { (0, 0ul), (1, 0ul), (3, 7ul), (8, 1ul << 20), (9, uint.MaxValue - 4ul), (17, ulong.MaxValue / 512) })
            {
                var plain = new byte[sectors * 512];
                random.NextBytes(plain);
                var wanted = WrittenOut(spec, key, plain, first);
                var data = (byte[])plain.Clone();
                cipher.EncryptSectors(data, first);
                Assert.Equal(wanted, data);
                cipher.DecryptSectors(data, first);
                Assert.Equal(plain, data);
            }
        }
    }

    [Fact]
    public void The_legacy_cipher_takes_sixteen_bytes_of_the_password()
    {
        var data = new byte[1024];
        Counting(data);
        var wanted = WrittenOut(Spec("aes", 16, "cbc-plain64"), [.. "secret"u8, .. new byte[10]], data, 5);
        LegacyAes.CreateCipher("secret"u8).EncryptSectors(data, 5);
        Assert.Equal(wanted, data);

        Counting(data);
        wanted = WrittenOut(Spec("aes", 16, "cbc-plain64"), "0123456789abcdef"u8.ToArray(), data, 5);
        LegacyAes.CreateCipher("0123456789abcdef and more"u8).EncryptSectors(data, 5);
        Assert.Equal(wanted, data);
    }

    [Fact]
    public void Parts_of_a_sector_are_a_bug_of_the_caller()
    {
        var cipher = LegacyAes.CreateCipher("x"u8);
        Assert.Throws<ArgumentException>(() => cipher.DecryptSectors(new byte[513], 0));
        Assert.Throws<ArgumentException>(() => cipher.EncryptSectors(new byte[511], 0));
    }

    [Theory]
    [InlineData("aes", false)]
    [InlineData("aes", true)]
    [InlineData("serpent", false)]
    [InlineData("twofish", false)]
    public void One_instance_serves_many_threads(string algorithm, bool portable)
    {
        var cipher = Spec(algorithm, 32, "xts-plain64").CreateCipher(new byte[32], Engine(portable));
        var plain = new byte[64 * 512];
        Counting(plain);
        var wanted = (byte[])plain.Clone();
        cipher.EncryptSectors(wanted, 99);
        Parallel.For(0, 64, _ =>
        {
            var data = (byte[])plain.Clone();
            cipher.EncryptSectors(data, 99);
            Assert.Equal(wanted, data);
            cipher.DecryptSectors(data, 99);
            Assert.Equal(plain, data);
        });
    }

    [Theory]
    [InlineData("aes", 64, "xts-plain64", false)]
    [InlineData("aes", 64, "xts-plain64", true)]
    [InlineData("aes", 32, "cbc-essiv:sha256", false)]
    [InlineData("serpent", 64, "xts-plain64", false)]
    [InlineData("twofish", 32, "ctr-plain64", false)]
    [InlineData("cast5", 16, "cbc-plain64", false)]
    public void A_call_allocates_nothing(string algorithm, int keyBytes, string mode, bool portable)
    {
        var cipher = Spec(algorithm, keyBytes, mode).CreateCipher(new byte[keyBytes], Engine(portable));
        var data = new byte[65536];
        cipher.EncryptSectors(data, 0);
        cipher.DecryptSectors(data, 0);
        // A collection meanwhile may empty the pools that buffers come from: the best of a few rounds counts.
        var least = long.MaxValue;
        for (var round = 0; round < 8 && least > 0; round++)
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < 10; i++)
            {
                cipher.EncryptSectors(data, 0);
                cipher.DecryptSectors(data, 0);
            }

            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        Assert.Equal(0, least);
    }

    private static AesEngine Engine(bool portable) => portable ? AesEngine.Portable : AesEngine.Fastest;

    private static CipherSpec Spec(string algorithm, int keyBytes, string mode) =>
        CipherSpec.Parse("test", HostOffset.Zero, algorithm, mode, keyBytes);

    private static void Counting(Span<byte> data)
    {
        for (var i = 0; i < data.Length; i++)
        {
            data[i] = (byte)i;
        }
    }

    // The modes in their simplest words, one block after the other, over the portable ciphers.
    private static byte[] WrittenOut(CipherSpec spec, ReadOnlySpan<byte> key, ReadOnlySpan<byte> plain, ulong sector)
    {
        var cipher = Make(spec.Algorithm, key[..spec.DataKeyBytes]);
        var n = cipher.BlockBytes;
        var result = new byte[plain.Length];
        for (var at = 0; at < plain.Length; at += 512, sector++)
        {
            var iv = new byte[n];
            BinaryPrimitives.WriteUInt64LittleEndian(iv, spec.IvGenerator == "plain" ? (uint)sector : sector);
            if (spec.IvHash is not null)
            {
                var saltKey = new byte[spec.IvHash.DigestBytes];
                spec.IvHash.Hash(key, saltKey);
                Make(spec.Algorithm, saltKey).Encrypt(iv, iv);
            }

            if (spec.Mode == "xts")
            {
                Make(spec.Algorithm, key[spec.DataKeyBytes..]).Encrypt(iv, iv);
            }

            for (var block = at; block < at + 512; block += n)
            {
                var buffer = plain.Slice(block, n).ToArray();
                switch (spec.Mode)
                {
                    case "xts":
                        Xor(buffer, iv);
                        cipher.Encrypt(buffer, buffer);
                        Xor(buffer, iv);
                        var tweak = BinaryPrimitives.ReadUInt128LittleEndian(iv);
                        BinaryPrimitives.WriteUInt128LittleEndian(iv, (tweak << 1) ^ ((tweak >> 127) * 0x87u));
                        break;
                    case "cbc":
                        Xor(buffer, iv);
                        cipher.Encrypt(buffer, buffer);
                        buffer.CopyTo(iv, 0);
                        break;
                    case "ctr":
                        var stream = new byte[n];
                        cipher.Encrypt(iv, stream);
                        Xor(buffer, stream);
                        for (var i = n - 1; i >= 0 && ++iv[i] == 0; i--)
                        {
                        }

                        break;
                    default:
                        cipher.Encrypt(buffer, buffer);
                        break;
                }

                buffer.CopyTo(result, block);
            }
        }

        return result;

        static BlockCipher Make(string algorithm, ReadOnlySpan<byte> key) => algorithm switch
        {
            "aes" => new PortableAesBlockCipher(key),
            "serpent" => new SerpentBlockCipher(key),
            "twofish" => new TwofishBlockCipher(key),
            _ => new Cast5BlockCipher(key),
        };

        static void Xor(byte[] data, byte[] mask)
        {
            for (var i = 0; i < data.Length; i++)
            {
                data[i] ^= mask[i];
            }
        }
    }

    private sealed class FixedVector(string hex) : IvGenerator
    {
        public override void Fill(ulong firstSector, Span<byte> vectors, int vectorBytes) =>
            BlockCipherTests.Hex(hex).CopyTo(vectors);
    }
}
