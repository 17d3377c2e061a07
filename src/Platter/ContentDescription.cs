using System.Buffers.Binary;
using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Raw;
using Platter.Operations.Partitions;

namespace Platter;

/// <summary>Says in words what a storage holds, by its first bytes: an image of a format, a partition table, a file system. Nothing that it names is opened.</summary>
public static class ContentDescription
{
    private const int HeadBytes = 68 << 10;
    private const ushort ExtMagic = 0xef53;

    // Where, what, and its name; the first that fits.
    private static readonly (int At, byte[] Magic, string Name)[] s_known =
    [
        (0, [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe], "LUKS encrypted data"),
        (0, "XFSB"u8.ToArray(), "XFS file system"),
        (0x10040, "_BHRfS_M"u8.ToArray(), "Btrfs file system"),
        (0x8001, "CD001"u8.ToArray(), "ISO 9660 file system"),
        (0, "hsqs"u8.ToArray(), "Squashfs file system"),
        (3, "NTFS    "u8.ToArray(), "NTFS file system"),
        (3, "EXFAT   "u8.ToArray(), "exFAT file system"),
        (54, "FAT1"u8.ToArray(), "FAT file system"),
        (82, "FAT32   "u8.ToArray(), "FAT file system"),
        (4086, "SWAPSPACE2"u8.ToArray(), "Linux swap space"),
        (512, "LABELONE"u8.ToArray(), "LVM2 physical volume"),
        (0, "KDMV"u8.ToArray(), "VMDK image"),
        (0, "vhdxfile"u8.ToArray(), "VHDX image"),
        (0, "conectix"u8.ToArray(), "VHD image"),
        (64, [0x7f, 0x10, 0xda, 0xbe], "VDI image"),
        (0, [0x1f, 0x8b], "gzip compressed data"),
        (0, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], "XZ compressed data"),
        (0, [0x28, 0xb5, 0x2f, 0xfd], "Zstandard compressed data"),
    ];

    /// <summary>Looks at the first 68 KiB, and at a partition table.</summary>
    /// <param name="storage">An export or a file. Stays open.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>A few words, "data" when nothing is recognised; without text from the storage.</returns>
    /// <exception cref="BlockException">It cannot be read.</exception>
    public static async ValueTask<string> DescribeAsync(Storage storage, CancellationToken cancellationToken = default)
    {
        var head = new byte[(int)Math.Min(HeadBytes, storage.Length)];
        var count = await storage.ReadAsync(HostOffset.Zero, head, cancellationToken).ConfigureAwait(false);
        if (Name(head.AsSpan(0, count)) is { } name)
        {
            return name;
        }

        return await DescribePartitionsAsync(storage, cancellationToken).ConfigureAwait(false) ?? "data";
    }

    private static string? Name(ReadOnlySpan<byte> head)
    {
        switch (KnownFormats.Registry.Probe(head[..Math.Min(head.Length, FormatRegistry.ProbeBytes)]).Name)
        {
            case "qcow2":
                var size = head.Length >= 32 ? BinaryPrimitives.ReadUInt64BigEndian(head[24..]) : 0;
                return string.Create(CultureInfo.InvariantCulture, $"qcow2 image of version {BinaryPrimitives.ReadUInt32BigEndian(head[4..])}, {size} bytes");
            case "parallels":
                return "Parallels image";
        }

        foreach (var (at, magic, name) in s_known)
        {
            if (head.Length >= at + magic.Length && head.Slice(at, magic.Length).SequenceEqual(magic))
            {
                return name;
            }
        }

        // The superblock lies 1024 bytes in.
        return head.Length >= 2048 && BinaryPrimitives.ReadUInt16LittleEndian(head[1080..]) == ExtMagic ? ExtName(head[1024..]) : null;
    }

    private static string ExtName(ReadOnlySpan<byte> superblock)
    {
        const uint HasJournal = 4, Extents = 0x40;
        var journal = (BinaryPrimitives.ReadUInt32LittleEndian(superblock[92..]) & HasJournal) != 0;
        var extents = (BinaryPrimitives.ReadUInt32LittleEndian(superblock[96..]) & Extents) != 0;
        return $"ext{(extents ? 4 : journal ? 3 : 2)} file system";
    }

    private static async ValueTask<string?> DescribePartitionsAsync(Storage storage, CancellationToken cancellationToken)
    {
        try
        {
            // Of a storage that is somebody else's: the node is not closed.
            var context = new OpenContext { Formats = KnownFormats.Registry, Storages = new HostStorageOpener(), Gate = new LocalFilesGate(), Codecs = KnownFormats.Codecs };
            var disk = new ImageNode(await new RawFormat().OpenAsync(storage, new NodeOptions(), context, cancellationToken).ConfigureAwait(false), null);
            var partitions = await PartitionTable.ReadAsync(disk, cancellationToken).ConfigureAwait(false);
            var second = new byte[Sizes.SectorBytes];
            var gpt = await storage.ReadAsync(new(Sizes.SectorBytes), second, cancellationToken).ConfigureAwait(false) >= 8 && second.AsSpan().StartsWith("EFI PART"u8);
            return string.Create(
                CultureInfo.InvariantCulture, $"{(gpt ? "GPT partition table" : "DOS/MBR boot sector")}, {partitions.Count} partition{(partitions.Count == 1 ? "" : "s")}");
        }
        catch (BlockException e) when (e.Kind is BlockErrorKind.NotFound or BlockErrorKind.Unsupported)
        {
            // There is none, or the export is larger than a disk.
            return null;
        }
    }
}
