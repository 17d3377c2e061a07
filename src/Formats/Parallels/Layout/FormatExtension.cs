using System.Buffers.Binary;
using System.Security.Cryptography;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Layout;

/// <summary>The Format Extension: one cluster with a checksum and a list of feature sections; all fields are little-endian.</summary>
/// <remarks>Spec: qemu <c>docs/interop/parallels</c>, section "Format Extension". Sections are padded to 8 bytes.</remarks>
internal static class FormatExtension
{
    /// <summary>What the cluster starts with.</summary>
    public const ulong Magic = 0xAB234CEF23DCEA87;

    private const int ChecksumAt = 8, FeaturesAt = 24;
    private const int FeatureHeaderSize = 24;
    private const int FlagsAt = 8, DataSizeAt = 16;
    private const string Structure = "Format Extension";

    /// <summary>Lists the feature sections, without the one that ends the list.</summary>
    /// <param name="cluster">The whole cluster.</param>
    /// <param name="file">For messages.</param>
    /// <param name="at">Where the cluster is.</param>
    /// <exception cref="ImageFormatException">Magic, checksum or list are broken.</exception>
    public static List<ExtensionFeature> Parse(ReadOnlySpan<byte> cluster, string file, HostOffset at)
    {
        ImageFormatException.ThrowIfShort(cluster, FeaturesAt + FeatureHeaderSize, file, Structure, at);
        var magic = BinaryPrimitives.ReadUInt64LittleEndian(cluster);
        if (magic != Magic)
        {
            throw new ImageFormatException(file, Structure, at, "magic", $"0x{magic:x}", $"must be 0x{Magic:x}");
        }

        if (!Checksum(cluster).AsSpan().SequenceEqual(cluster[ChecksumAt..FeaturesAt]))
        {
            throw new ImageFormatException(
                file, Structure, at + ChecksumAt, "m_CheckSum", Convert.ToHexStringLower(cluster[ChecksumAt..FeaturesAt]), "is not the MD5 of the cluster");
        }

        List<ExtensionFeature> features = [];
        long next = FeaturesAt;
        while (next + FeatureHeaderSize <= cluster.Length)
        {
            var bytes = cluster[(int)next..];
            var feature = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
            if (feature == 0)
            {
                return features;
            }

            var dataAt = (int)next + FeatureHeaderSize;
            var size = BinaryPrimitives.ReadUInt32LittleEndian(bytes[DataSizeAt..]);
            if (size > cluster.Length - dataAt)
            {
                throw new ImageFormatException(
                    file, Structure, at + next + DataSizeAt, $"data_size of feature 0x{feature:x}", $"{size}", "the data reach beyond the cluster");
            }

            features.Add(new(feature, BinaryPrimitives.ReadUInt64LittleEndian(bytes[FlagsAt..]), dataAt, (int)size));
            next = dataAt + size;
            next += -next & 7;
        }

        throw new ImageFormatException(file, Structure, at + next, "features", string.Empty, "the list has no end");
    }

    /// <summary>Bytes that an extension with sections of these sizes takes, the end of the list included.</summary>
    public static long SizeFor(IEnumerable<long> dataSizes) => FeaturesAt + FeatureHeaderSize + dataSizes.Sum(size => FeatureHeaderSize + ((size + 7) & ~7L));

    /// <summary>Makes the cluster.</summary>
    /// <param name="clusterSize">Its bytes; at least <see cref="SizeFor"/> the sections.</param>
    /// <param name="features">The sections.</param>
    public static byte[] Build(int clusterSize, IReadOnlyList<(ulong Magic, ulong Flags, byte[] Data)> features)
    {
        var cluster = new byte[clusterSize];
        BinaryPrimitives.WriteUInt64LittleEndian(cluster, Magic);
        var next = FeaturesAt;
        foreach (var (magic, flags, data) in features)
        {
            var section = cluster.AsSpan(next);
            BinaryPrimitives.WriteUInt64LittleEndian(section, magic);
            BinaryPrimitives.WriteUInt64LittleEndian(section[FlagsAt..], flags);
            BinaryPrimitives.WriteUInt32LittleEndian(section[DataSizeAt..], (uint)data.Length);
            data.CopyTo(section[FeatureHeaderSize..]);
            next += FeatureHeaderSize + ((data.Length + 7) & ~7);
        }

        Checksum(cluster).CopyTo(cluster, ChecksumAt);
        return cluster;
    }

    /// <summary>The MD5 that belongs into a cluster.</summary>
    public static byte[] Checksum(ReadOnlySpan<byte> cluster) =>
#pragma warning disable CA5351 // The format demands MD5; it guards against accidents, not against people.
        MD5.HashData(cluster[FeaturesAt..]);
#pragma warning restore CA5351
}
