using Platter.Core.Codecs;
using Platter.Host.Codecs;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Host.Codecs;

/// <summary>What is encoded decodes to the same bytes, with every library and without any.</summary>
public sealed class CompressorTests
{
    private const int Cluster = 65536;

    public static TheoryData<string, int?> Encoders()
    {
        var result = new TheoryData<string, int?>();
        foreach (var level in new int?[] { null, 1, 2, 6, 9 })
        {
            foreach (var name in new[] { "runtime", "zlib", "portable", "zstd" })
            {
                result.Add(name, level);
            }
        }

        return result;
    }

    [Theory]
    [MemberData(nameof(Encoders))]
    public void What_comes_out_decodes_to_what_went_in(string name, int? level)
    {
        using var encoder = Rent(name, level);
        using var decoder = name == "zstd" ? HostCodecs.Instance.RentZstd() : PortableCodecs.Instance.RentInflate();
        var random = new Random(level ?? 0);
        var output = new byte[2 * Cluster];
        foreach (var length in new[] { 1, 2, 3, 4, 257, 258, 259, 512, 4096, 4097, Cluster, Cluster })
        {
            foreach (var input in Inputs(random, length))
            {
                var encoded = encoder.Compress(input, output);
                Assert.InRange(encoded, 1, output.Length);
                var decoded = new byte[length];
                Assert.Equal(length, decoder.Decompress(output.AsSpan(0, encoded), decoded));
                Assert.Equal(length, decoded.AsSpan().CommonPrefixLength(input));
            }
        }
    }

    [Theory]
    [InlineData("runtime")]
    [InlineData("zlib")]
    [InlineData("portable")]
    [InlineData("zstd")]
    public void What_does_not_fit_is_said_and_the_next_one_works(string name)
    {
        using var encoder = Rent(name, null);
        var noise = new byte[Cluster];
        new Random(1).NextBytes(noise);
        Assert.Equal(-1, encoder.Compress(noise, new byte[Cluster - 1]));
        Assert.InRange(encoder.Compress(new byte[Cluster], new byte[Cluster - 1]), 1, 1000);
    }

    [Theory]
    [InlineData("runtime")]
    [InlineData("zlib")]
    [InlineData("portable")]
    public void No_distance_is_longer_than_the_window_of_qcow2(string name)
    {
        using var encoder = Rent(name, 9);
        var input = new byte[4 * Cluster];
        new Random(1).NextBytes(input.AsSpan(0, 4500));
        for (var at = 4500; at < input.Length; at++)
        {
            input[at] = input[at - 4500];
        }

        // Every repetition is farther away than 4 KiB: a window that saw it would make this tiny.
        Assert.InRange(encoder.Compress(input, new byte[2 * input.Length]), input.Length * 9 / 10, 2 * input.Length);
        for (var at = 3000; at < input.Length; at++)
        {
            input[at] = input[at - 3000];
        }

        Assert.InRange(encoder.Compress(input, new byte[2 * input.Length]), 1, input.Length / 10);
    }

    private static IEnumerable<byte[]> Inputs(Random random, int length)
    {
        var noise = new byte[length];
        random.NextBytes(noise);
        yield return noise;
        yield return new byte[length];
        yield return TestContent.MakeCompressible(random.Next(), length);
        var few = new byte[length];
        for (var i = 0; i < length; i++)
        {
            few[i] = (byte)random.Next(2);
        }

        yield return few;
    }

    private static Compressor Rent(string name, int? level)
    {
        Assert.SkipWhen(Environment.GetEnvironmentVariable("PLATTER_PORTABLE") == "1" && name != "portable", "the portable way was asked for");
        return name switch
        {
            "runtime" => HostCodecs.Instance.RentDeflate(level),
            "zlib" => HostCodecs.WithoutFirst(1).RentDeflate(level),
            "zstd" => HostCodecs.Instance.RentZstdCompressor(level),
            _ => PortableCodecs.Instance.RentDeflate(level),
        };
    }
}
