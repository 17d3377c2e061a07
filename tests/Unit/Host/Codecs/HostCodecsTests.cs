using System.IO.Compression;
using Platter.Core.Codecs;
using Platter.Core.Errors;
using Platter.Host.Codecs;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Host.Codecs;

/// <summary>Every way to decode does the same, within its bounds.</summary>
public sealed class HostCodecsTests
{
    private static readonly Dictionary<string, CodecProvider> s_providers = new()
    {
        ["first choice"] = HostCodecs.Instance,
        ["without .NET's own library"] = HostCodecs.WithoutFirst(1),
        ["without any library"] = HostCodecs.WithoutFirst(2),
        ["portable"] = PortableCodecs.Instance,
    };

    public static TheoryData<string> Providers => [.. s_providers.Keys];

    [Fact]
    public void The_runtime_s_own_library_inflates()
    {
        Assert.SkipWhen(Environment.GetEnvironmentVariable("PLATTER_PORTABLE") == "1", "the portable way was asked for");
        Assert.Equal("libSystem.IO.Compression.Native", HostCodecs.Instance.InflateName);
        Assert.Equal("portable", HostCodecs.WithoutFirst(2).InflateName);
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public void Inflate_decodes_up_to_the_output_and_ignores_what_follows(string provider)
    {
        var content = TestContent.MakeCompressible(1, 300_000);
        byte[] stream = [.. Qcow2Builder.Deflate(content), .. TestContent.Make(1, 0, 700)];
        using var inflate = s_providers[provider].RentInflate();
        for (var round = 0; round < 3; round++)
        {
            foreach (var size in new[] { 1, 512, 65536, content.Length, content.Length + 100 })
            {
                var output = new byte[size];
                var expected = Math.Min(size, content.Length);
                Assert.Equal(expected, inflate.Decompress(stream, output));
                Assert.True(output.AsSpan(0, expected).SequenceEqual(content.AsSpan(0, expected)));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public void Inflate_accepts_distances_of_the_whole_window(string provider)
    {
        // Noise twice, 30 KiB apart: only a window of 32 KiB finds it again.
        var noise = TestContent.Make(3, 0, 30 * 1024);
        byte[] content = [.. noise, .. noise];
        var stream = Qcow2Builder.Deflate(content, CompressionLevel.SmallestSize);
        Assert.True(stream.Length < 40_000, "the encoder found no far match");
        using var inflate = s_providers[provider].RentInflate();
        var output = new byte[content.Length];
        Assert.Equal(content.Length, inflate.Decompress(stream, output));
        Assert.True(output.AsSpan().SequenceEqual(content));
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public void Inflate_survives_garbage_and_works_afterwards(string provider)
    {
        const int seed = 9;
        var random = new Random(seed);
        var good = Qcow2Builder.Deflate(TestContent.MakeCompressible(1, 65536));
        var output = new byte[65536];
        using var inflate = s_providers[provider].RentInflate();
        for (var round = 0; round < 200; round++)
        {
            var bad = good.ToArray();
            bad[random.Next(bad.Length)] ^= (byte)(1 << random.Next(8));
            Assert.InRange(inflate.Decompress(bad.AsSpan(0, random.Next(1, bad.Length)), output), -1, output.Length);
        }

        Assert.Equal(-1, inflate.Decompress([0xff, 0xff, 0xff, 0xff], output));
        Assert.Equal(0, inflate.Decompress([], output));
        Assert.Equal(0, inflate.Decompress(good, []));
        Assert.Equal(output.Length, inflate.Decompress(good, output));
    }

    [Fact]
    public void Zstd_decodes_frames_in_a_row_and_ignores_what_follows()
    {
        using var zstd = RentZstdOrSkip();
        var content = TestContent.MakeCompressible(1, 100_000);
        byte[] stream = [.. ZstdFrames.Frame(content.AsSpan(0, 30_000)), .. ZstdFrames.Skippable([1, 2]), .. ZstdFrames.Frame(content.AsSpan(30_000), false)];
        foreach (var size in new[] { 1, 30_000, 30_001, content.Length, content.Length + 10 })
        {
            var output = new byte[size];
            var expected = Math.Min(size, content.Length);
            Assert.Equal(expected, zstd.Decompress(stream, output));
            Assert.True(output.AsSpan(0, expected).SequenceEqual(content.AsSpan(0, expected)));
        }

        Assert.Equal(content.Length, zstd.Decompress([.. stream, 1, 2, 3, 4, 5, 6], new byte[content.Length]));
    }

    [Fact]
    public void Zstd_refuses_windows_above_8_MiB_and_frames_without_end()
    {
        using var zstd = RentZstdOrSkip();
        var output = new byte[65536];

        // Magic, descriptor without single-segment flag, window descriptor: 2^(10 + 14) bytes.
        Assert.Equal(-1, zstd.Decompress([0x28, 0xb5, 0x2f, 0xfd, 0x00, 14 << 3, 0x01, 0x00, 0x00], output));
        var empty = Enumerable.Repeat(ZstdFrames.Frame([]), 50_000).SelectMany(f => f).ToArray();
        Assert.Equal(0, zstd.Decompress(empty, output));
    }

    [Fact]
    public void Decoders_are_used_by_many_threads_each_its_own()
    {
        var content = TestContent.MakeCompressible(1, 65536);
        var stream = Qcow2Builder.Deflate(content);
        Parallel.For(0, 64, new ParallelOptions { MaxDegreeOfParallelism = 8 }, _ =>
        {
            var output = new byte[content.Length];
            for (var i = 0; i < 20; i++)
            {
                using var inflate = HostCodecs.Instance.RentInflate();
                Assert.Equal(content.Length, inflate.Decompress(stream, output));
                Assert.True(output.AsSpan().SequenceEqual(content));
            }
        });
    }

    private static Decompressor RentZstdOrSkip()
    {
        try
        {
            return HostCodecs.Instance.RentZstd();
        }
        catch (BlockException e)
        {
            Assert.Skip(e.Message);
            throw;
        }
    }
}
