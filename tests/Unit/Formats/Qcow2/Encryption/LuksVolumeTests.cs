using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Formats.Qcow2.Encryption;
using Platter.Formats.Qcow2.Encryption.Hashes;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Encryption;

/// <summary>Unlocking with passwords, and what happens when one does not.</summary>
public class LuksVolumeTests
{
    [Theory]
    [InlineData("aes", "xts-plain64", 64, "sha256")]
    [InlineData("aes", "xts-plain", 32, "sha1")]
    [InlineData("aes", "cbc-essiv:sha256", 16, "ripemd160")]
    [InlineData("aes", "cbc-plain64", 24, "sha512")]
    [InlineData("serpent", "xts-plain64", 48, "sha384")]
    [InlineData("twofish", "ctr-plain64", 32, "sha224")]
    [InlineData("cast5", "cbc-plain64", 16, "md5")]
    [InlineData("aes", "ecb", 32, "sha256")]
    public async Task The_right_password_gives_the_cipher_of_the_master_key(string cipher, string mode, int keyBytes, string hash)
    {
        var made = new LuksTestVolume(cipher, mode, keyBytes, hash).WithSlot(0, "geheim");
        var volume = await LuksTestVolume.OpenAsync(made.ToStorage(), "geheim");

        var data = new byte[4096];
        new Random(1).NextBytes(data);
        var wanted = (byte[])data.Clone();
        made.Spec.CreateCipher(made.MasterKey).EncryptSectors(wanted, 777);
        volume.Cipher.EncryptSectors(data, 777);
        Assert.Equal(wanted, data);
        Assert.Equal(0, volume.Slot);
        Assert.Equal(made.Spec, volume.Spec);
    }

    [Fact]
    public async Task Each_of_eight_slots_opens_with_its_own_password()
    {
        var made = new LuksTestVolume();
        for (var i = 0; i < 8; i++)
        {
            made.WithSlot(i, $"password {i}", iterations: (uint)(20 - i));
        }

        var storage = made.ToStorage();
        for (var i = 0; i < 8; i++)
        {
            Assert.Equal(i, (await LuksTestVolume.OpenAsync(storage, $"password {i}")).Slot);
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("Geheim")]
    [InlineData("geheim ")]
    public async Task A_wrong_password_is_called_wrong(string password)
    {
        var storage = new LuksTestVolume().WithSlot(2, "geheim").WithSlot(5, "x").ToStorage();
        var error = await Assert.ThrowsAsync<BlockException>(async () => await LuksTestVolume.OpenAsync(storage, password));
        Assert.Equal(BlockErrorKind.WrongSecret, error.Kind);
        Assert.Equal("disk.qcow2: wrong password: it opens none of the 2 active LUKS key slots", error.Message);
    }

    [Fact]
    public async Task An_empty_password_is_a_password() =>
        Assert.Equal(1, (await LuksTestVolume.OpenAsync(new LuksTestVolume().WithSlot(1, string.Empty).ToStorage(), string.Empty)).Slot);

    [Fact]
    public async Task Without_an_active_slot_no_password_opens()
    {
        var error = await Assert.ThrowsAsync<BlockException>(async () => await LuksTestVolume.OpenAsync(new LuksTestVolume().ToStorage(), "x"));
        Assert.Equal(BlockErrorKind.WrongSecret, error.Kind);
        Assert.Equal("disk.qcow2: no LUKS key slot is active, so no password opens it", error.Message);
    }

    [Fact]
    public async Task A_costly_slot_does_not_keep_a_cheap_one_from_opening()
    {
        var storage = new LuksTestVolume().WithSlot(0, "x", uint.MaxValue).WithSlot(3, "geheim").ToStorage();
        Assert.Equal(3, (await LuksTestVolume.OpenAsync(storage, "geheim")).Slot);

        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await LuksTestVolume.OpenAsync(storage, "wrong"));
        Assert.Equal(BlockErrorKind.LimitExceeded, error.Kind);
        Assert.Equal(
            "disk.qcow2: LUKS key slot 0 at 0x300d0: iterations 4294967295: trying the password takes more than 100000 iterations", error.Message);
    }

    [Fact]
    public async Task The_iterations_of_all_slots_and_of_the_digest_count_together()
    {
        var made = new LuksTestVolume().WithSlot(0, "a", 500).WithSlot(1, "b", 500).WithSlot(2, "c", 501);
        Assert.Equal(1, (await LuksTestVolume.OpenAsync(made.ToStorage(), "b", 1020)).Slot);
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await LuksTestVolume.OpenAsync(made.ToStorage(), "c", 1530));
        Assert.Equal(BlockErrorKind.LimitExceeded, error.Kind);

        var costlyDigest = made.ToStorage(header => header with { MasterKeyDigestIterations = uint.MaxValue });
        error = await Assert.ThrowsAsync<ImageFormatException>(async () => await LuksTestVolume.OpenAsync(costlyDigest, "a", long.MaxValue));
        Assert.Equal(BlockErrorKind.LimitExceeded, error.Kind);
    }

    [Fact]
    public async Task Key_material_beyond_the_end_of_the_file_is_named()
    {
        var file = new LuksTestVolume().WithSlot(7, "geheim").ToFile();
        var storage = new MemoryStorage("disk.qcow2", file[..(int)(LuksTestVolume.HeaderAt + 0x8200)]);
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await LuksTestVolume.OpenAsync(storage, "geheim"));
        Assert.Equal("disk.qcow2: key material of LUKS key slot 7 at 0x38000: the file ends after 512 of its 1536 bytes", error.Message);
    }

    [Theory]
    [InlineData("camellia", "xts-plain64", "sha256", "cipher-name \"camellia\": only aes, serpent, twofish and cast5 are supported")]
    [InlineData("des3_ede", "cbc-plain64", "sha256", "cipher-name \"des3_ede\": only aes, serpent, twofish and cast5 are supported")]
    [InlineData("aes", "lrw-benbi", "sha256", "cipher-mode \"lrw-benbi\": only the modes xts, cbc, ecb and ctr are supported")]
    [InlineData("aes", "xts-plain64be", "sha256", "cipher-mode \"xts-plain64be\": only the vectors plain, plain64 and essiv are supported")]
    [InlineData("aes", "cbc", "sha256", "cipher-mode \"cbc\": only the vectors plain, plain64 and essiv are supported")]
    [InlineData("aes", "cbc-essiv:sha1", "sha256", "cipher-mode \"cbc-essiv:sha1\": essiv needs a hash whose digest is a key of aes")]
    [InlineData("aes", "cbc-essiv", "sha256", "cipher-mode \"cbc-essiv\": essiv needs a hash whose digest is a key of aes")]
    [InlineData("cast5", "xts-plain64", "sha256", "cipher-mode \"xts-plain64\": xts needs a cipher with blocks of 16 bytes, and cast5 has 8")]
    [InlineData("aes", "xts-plain64", "whirlpool", "hash-spec \"whirlpool\": this hash is not supported")]
    public async Task What_we_do_not_do_is_refused_by_name_but_the_header_can_be_read(string cipher, string mode, string hash, string problem)
    {
        var storage = new LuksTestVolume().WithSlot(0, "geheim")
            .ToStorage(header => header with { CipherName = cipher, CipherMode = mode, HashSpec = hash });
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await LuksTestVolume.OpenAsync(storage, "geheim"));
        Assert.Equal(BlockErrorKind.Unsupported, error.Kind);
        Assert.Equal($"disk.qcow2: LUKS header at 0x30000: {problem}", error.Message);

        var header = await LuksVolume.ReadHeaderAsync(storage, new(LuksTestVolume.HeaderAt), LuksTestVolume.HeaderLength, "disk.qcow2");
        Assert.Equal(cipher, header.CipherName);
    }

    [Theory]
    [InlineData("aes", "xts-plain64", 63)]
    [InlineData("aes", "xts-plain64", 16)]
    [InlineData("aes", "cbc-plain64", 64)]
    [InlineData("serpent", "cbc-plain64", 8)]
    [InlineData("cast5", "cbc-plain64", 24)]
    public async Task A_key_size_that_the_cipher_does_not_have_is_corrupt(string cipher, string mode, uint keyBytes)
    {
        var storage = new LuksTestVolume().ToStorage(header => header with { CipherName = cipher, CipherMode = mode, KeyBytes = keyBytes });
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await LuksTestVolume.OpenAsync(storage, "x"));
        Assert.Equal(BlockErrorKind.CorruptImage, error.Kind);
        Assert.Equal($"disk.qcow2: LUKS header at 0x30000: key-bytes {keyBytes}: is no key size of {cipher} in mode {mode[..3]}", error.Message);
    }

    [Theory]
    [InlineData("md5")]
    [InlineData("sha1")]
    [InlineData("sha224")]
    [InlineData("sha256")]
    [InlineData("sha384")]
    [InlineData("sha512")]
    [InlineData("ripemd160")]
    public void What_the_splitter_spreads_it_merges_again(string hash)
    {
        var random = new Random(9);
        foreach (var keyBytes in (int[])[1, 16, 20, 24, 32, 48, 63, 64])
        {
            foreach (var stripes in (int[])[2, 3, 50])
            {
                var key = new byte[keyBytes];
                var material = new byte[keyBytes * stripes];
                random.NextBytes(key);
                random.NextBytes(material);
                AntiForensicSplitter.Split(key, material, LuksHash.Find(hash)!);
                var merged = new byte[keyBytes];
                AntiForensicSplitter.Merge(material, merged, LuksHash.Find(hash)!);
                Assert.Equal(key, merged);
            }
        }
    }
}
