using System.Security.Cryptography;
using System.Text;
using Platter.Formats.Qcow2.Encryption.Hashes;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Encryption;

/// <summary>Hashes and PBKDF2 against published values and against .NET.</summary>
public class LuksHashTests
{
    [Theory]
    [InlineData("ripemd160", "", "9c1185a5c5e9fc54612808977ee8f548b2258d31")]
    [InlineData("ripemd160", "abc", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc")]
    [InlineData("ripemd160", "message digest", "5d0689ef49d2fae572b881b123a85ffa21595f36")]
    [InlineData("ripemd160", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "12a053384a9c0c88e405a06c27dcf49ada62eb2b")]
    [InlineData("sha224", "", "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f")]
    [InlineData("sha224", "abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7")]
    [InlineData("sha224", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "75388b16512776cc5dba5da1fd890150b0c6455cb4f58b1952522525")]
    [InlineData("md5", "abc", "900150983cd24fb0d6963f7d28e17f72")]
    [InlineData("sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d")]
    [InlineData("sha256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]
    [InlineData("sha384", "abc", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7")]
    [InlineData("sha512", "abc", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f")]
    public void Digests_are_the_published_ones(string name, string message, string digest)
    {
        var hash = LuksHash.Find(name)!;
        var got = new byte[hash.DigestBytes];
        hash.Hash(Encoding.ASCII.GetBytes(message), got);
        Assert.Equal(digest, Convert.ToHexStringLower(got));
        Assert.Equal(name, hash.Name);
    }

    [Fact]
    public void Our_md5_is_the_systems_for_every_length()
    {
        var data = new byte[300];
        new Random(1).NextBytes(data);
        var got = new byte[16];
        for (var length = 0; length <= data.Length; length++)
        {
            LuksHash.Find("md5")!.Hash(data.AsSpan(0, length), got);
            Assert.Equal(MD5.HashData(data.AsSpan(0, length)), got);
        }
    }

    [Theory]
    [InlineData(0, 1, 16)]
    [InlineData(8, 3, 20)]
    [InlineData(64, 2, 64)]
    [InlineData(65, 5, 33)]
    [InlineData(200, 4, 1)]
    public void Our_pbkdf2_is_what_its_definition_says_over_the_systems_hmac(int passwordBytes, int iterations, int keyBytes)
    {
        var random = new Random(passwordBytes);
        var password = new byte[passwordBytes];
        var salt = new byte[32];
        random.NextBytes(password);
        random.NextBytes(salt);

        var wanted = new List<byte>();
        for (byte number = 1; wanted.Count < keyBytes; number++)
        {
            var u = HMACMD5.HashData(password, (byte[])[.. salt, 0, 0, 0, number]);
            var sum = (byte[])u.Clone();
            for (var i = 1; i < iterations; i++)
            {
                u = HMACMD5.HashData(password, u);
                sum = sum.Zip(u, (left, right) => (byte)(left ^ right)).ToArray();
            }

            wanted.AddRange(sum);
        }

        var got = new byte[keyBytes];
        LuksHash.Find("md5")!.StretchPassword(password, salt, iterations, got);
        Assert.Equal(wanted.Take(keyBytes), got);
    }

    // RFC 6070, and RFC 7914 section 11.
    [Theory]
    [InlineData("sha1", "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1")]
    [InlineData("sha256", "passwd", "salt", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc")]
    public void Pbkdf2_gives_the_published_keys(string name, string password, string salt, int iterations, string key)
    {
        var got = new byte[key.Length / 2];
        LuksHash.Find(name)!.StretchPassword(Encoding.ASCII.GetBytes(password), Encoding.ASCII.GetBytes(salt), iterations, got);
        Assert.Equal(key, Convert.ToHexStringLower(got));
    }

    [Fact]
    public void An_unknown_hash_is_not_found() => Assert.Null(LuksHash.Find("whirlpool"));
}
