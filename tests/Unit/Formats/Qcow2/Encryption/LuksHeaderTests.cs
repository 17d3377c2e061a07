using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Encryption;

/// <summary>The header's layout, its rules, and what hostile ones may do: fail with an error of the family, quickly.</summary>
public class LuksHeaderTests
{
    // qemu-img create -f qcow2 --object secret,id=s,data=pw -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,
    // encrypt.cipher-alg=aes-256,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256 g.qcow2 4M  (7.2.22)
    private const string Golden = ""
        + "4c554b53babe000161657300000000000000000000000000000000000000000000000000000000006362632d65737369763a7368613235360000000000000000"
        + "0000000000000000736861323536000000000000000000000000000000000000000000000000000000000808000000207a764471c8b047133a06b6dd4cdb96de"
        + "f7805aaf164fe935399e369375b3867f4a786b23edb6c629a4e4d3c5b81777e7b0c6324a00001ed538326639663333352d643235342d346437342d623435302d"
        + "6362633736386137383937630000000000ac71f30000d77c489d46f84a3b9d91a3812da919e5c63fc1291bbbdee40855b0a681b7038e518c0000000800000fa0"
        + "0000dead0000000000000000000000000000000000000000000000000000000000000000000000000000010800000fa00000dead000000000000000000000000"
        + "0000000000000000000000000000000000000000000000000000020800000fa00000dead00000000000000000000000000000000000000000000000000000000"
        + "00000000000000000000030800000fa00000dead0000000000000000000000000000000000000000000000000000000000000000000000000000040800000fa0"
        + "0000dead0000000000000000000000000000000000000000000000000000000000000000000000000000050800000fa00000dead000000000000000000000000"
        + "0000000000000000000000000000000000000000000000000000060800000fa00000dead00000000000000000000000000000000000000000000000000000000"
        + "00000000000000000000070800000fa0";

    [Fact]
    public void A_header_of_qemu_is_read_and_written_back_as_it_is()
    {
        var bytes = Convert.FromHexString(Golden);
        var header = LuksHeader.Parse(bytes, "g.qcow2", new(0x40000));
        header.Validate("g.qcow2", new(0x40000), 1052672);

        Assert.Equal(("aes-256", "cbc", "essiv", "sha256", "sha256"), (header.CipherAlg, header.Mode, header.IvGenAlg, header.IvGenHashAlg, header.HashSpec));
        Assert.Equal(("82f9f335-d254-4d74-b450-cbc768a7897c", 1052672L, 7893u), (header.Uuid, header.PayloadOffset, header.MasterKeyDigestIterations));
        Assert.Equal((true, 55164u, 4096L, 4000u), (header.Slots[0].IsActive, header.Slots[0].Iterations, header.Slots[0].KeyMaterialOffset, header.Slots[0].Stripes));
        Assert.All(header.Slots.Skip(1), slot => Assert.False(slot.IsActive));
        Assert.Equal([135168, 266240, 397312, 528384, 659456, 790528, 921600], header.Slots.Skip(1).Select(slot => slot.KeyMaterialOffset));

        var written = new byte[LuksHeader.Size];
        header.WriteTo(written);
        Assert.Equal(bytes, written);
    }

    [Fact]
    public void The_size_of_the_cipher_key_is_half_of_the_master_key_with_xts()
    {
        var header = new LuksTestVolume(keyBytes: 48, cipherName: "serpent").Header;
        Assert.Equal(("serpent-192", "xts", "plain64", null), (header.CipherAlg, header.Mode, header.IvGenAlg, header.IvGenHashAlg));
    }

    [Theory]
    [InlineData(0, "4c554b53babf", "magic 4c554b53babf: is not the magic of LUKS", BlockErrorKind.CorruptImage)]
    [InlineData(6, "0002", "version 2: only version 1 is supported", BlockErrorKind.Unsupported)]
    [InlineData(108, "00000000", "key-bytes 0: must be between 1 and 64", BlockErrorKind.CorruptImage)]
    [InlineData(108, "ffffffff", "key-bytes 4294967295: must be between 1 and 64", BlockErrorKind.CorruptImage)]
    [InlineData(164, "00000000", "mk-digest-iter 0: must be at least 1", BlockErrorKind.CorruptImage)]
    [InlineData(9, "1b", "cipher-name \"a\\x1bs\": is not a zero-terminated name", BlockErrorKind.CorruptImage)]
    public async Task A_bad_field_is_named(int at, string hex, string problem, BlockErrorKind kind)
    {
        var error = await ReadForgedAsync(at, Convert.FromHexString(hex));
        Assert.Equal($"disk.qcow2: LUKS header at 0x30000: {problem}", error.Message);
        Assert.Equal(kind, error.Kind);
    }

    [Theory]
    [InlineData(0, "active 0x00000000: is neither active nor inactive", BlockErrorKind.CorruptImage)]
    [InlineData(4, "iterations 0: must be at least 1", BlockErrorKind.CorruptImage)]
    [InlineData(40, "key-material-offset 0: key material overlaps the header", BlockErrorKind.CorruptImage)]
    [InlineData(44, "stripes 0: must be at least 1", BlockErrorKind.CorruptImage)]
    [InlineData(40, "key-material-offset 4294967295: key material ends behind the 36864 bytes of the header", BlockErrorKind.CorruptImage)]
    [InlineData(44, "stripes 4294967295: key material of more than 524288 bytes", BlockErrorKind.LimitExceeded)]
    public async Task A_bad_field_of_a_slot_is_named(int at, string problem, BlockErrorKind kind)
    {
        var value = problem.Contains("4294967295", StringComparison.Ordinal) ? uint.MaxValue : 0;
        var bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        var error = await ReadForgedAsync(208 + (48 * 2) + at, bytes);
        Assert.Equal($"disk.qcow2: LUKS key slot 2 at 0x30130: {problem}", error.Message);
        Assert.Equal(kind, error.Kind);
    }

    [Fact]
    public async Task Slots_may_not_share_key_material()
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, 8 + (8 * 2) + 2);
        var error = await ReadForgedAsync(208 + (48 * 6) + 40, bytes, new LuksTestVolume().WithSlot(2, "a").WithSlot(6, "b"));
        Assert.Equal("disk.qcow2: LUKS header at 0x30000: key-material-offset 26: the key material of slots 2 and 6 overlaps", error.Message);
    }

    [Theory]
    [InlineData(0, 591)]
    [InlineData(0, 0)]
    [InlineData(0, -1)]
    [InlineData(0, long.MinValue)]
    [InlineData(-512, 4096)]
    [InlineData(long.MaxValue - 4096, 8192)]
    [InlineData(long.MaxValue, long.MaxValue)]
    public async Task A_place_without_room_for_a_header_is_corrupt(long at, long length)
    {
        var error = await Assert.ThrowsAsync<ImageFormatException>(
            async () => await LuksVolume.ReadHeaderAsync(new MemoryStorage("disk.qcow2", new byte[4096]), new HostOffset(at), length, "disk.qcow2"));
        Assert.Equal(BlockErrorKind.CorruptImage, error.Kind);
    }

    [Fact]
    public async Task A_file_cut_at_any_byte_gives_an_error_of_the_family()
    {
        var file = new LuksTestVolume().WithSlot(7, "geheim").ToFile();
        for (var length = 0; length < file.Length; length += length is >= 0x30000 and < 0x30250 ? 1 : 509)
        {
            await OpenHostileAsync(file[..length], mustFail: length <= LuksTestVolume.HeaderAt + (8 * 4096) + 1536 - 512);
        }
    }

    [Fact]
    public async Task No_value_of_any_field_gives_anything_but_an_error_of_the_family()
    {
        var file = new LuksTestVolume().WithSlot(0, "geheim").WithSlot(3, "x").ToFile();
        for (var at = 0; at < LuksHeader.Size; at += 4)
        {
            foreach (var value in (uint[])[0, 1, 2, 7, 8, 63, 64, 65, 512, 1024, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, LuksKeySlot.ActiveState, LuksKeySlot.InactiveState])
            {
                var forged = (byte[])file.Clone();
                BinaryPrimitives.WriteUInt32BigEndian(forged.AsSpan((int)LuksTestVolume.HeaderAt + at), value);
                await OpenHostileAsync(forged);
            }
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Random_damage_gives_nothing_but_errors_of_the_family(int seed)
    {
        var random = new Random(seed);
        var file = new LuksTestVolume().WithSlot(0, "geheim").WithSlot(3, "x").ToFile();
        for (var round = 0; round < 500; round++)
        {
            var forged = (byte[])file.Clone();
            for (var i = random.Next(1, 12); i > 0; i--)
            {
                forged[LuksTestVolume.HeaderAt + random.Next(LuksHeader.Size)] = (byte)random.Next(256);
            }

            await OpenHostileAsync(forged);
        }
    }

    private static async Task<ImageFormatException> ReadForgedAsync(int at, byte[] bytes, LuksTestVolume? volume = null)
    {
        var file = (volume ?? new LuksTestVolume().WithSlot(2, "geheim")).ToFile();
        bytes.CopyTo(file, LuksTestVolume.HeaderAt + at);
        return await Assert.ThrowsAsync<ImageFormatException>(async () => await LuksVolume.ReadHeaderAsync(
            new MemoryStorage("disk.qcow2", file), new(LuksTestVolume.HeaderAt), LuksTestVolume.HeaderLength, "disk.qcow2"));
    }

    private static async Task OpenHostileAsync(byte[] file, bool mustFail = false)
    {
        try
        {
            await LuksTestVolume.OpenAsync(new MemoryStorage("disk.qcow2", file), "geheim", maxIterations: 2000);
            Assert.False(mustFail, $"a file of {file.Length} bytes opened");
        }
        catch (BlockException error)
        {
            Assert.DoesNotContain('\n', error.Message);
            Assert.DoesNotContain('\x1b', error.Message);
        }
    }
}
