using System.Xml.Linq;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Turns the XML of <c>DiskDescriptor.xml</c> into a <see cref="DiskDescriptor"/>. Pure.</summary>
/// <remarks>Each refusal names file, element, line and value. Numbers are decimal or hexadecimal (0x…).</remarks>
internal static class DescriptorParser
{
    private const long MaxSectors = long.MaxValue / Sizes.SectorBytes;
    private const int MaxNameChars = 4096;

    /// <summary>Parses and judges.</summary>
    /// <exception cref="ImageFormatException">Corrupt, or <see cref="BlockErrorKind.Unsupported"/>: padding, encryption, another version or image type.</exception>
    public static DiskDescriptor Parse(XElement root, string file)
    {
        if (root.Name.LocalName != "Parallels_disk_image")
        {
            throw ImageFormatException.InDescriptor(
                file,
                SafeText.Clean(root.Name.LocalName, 64),
                XmlFile.LineOf(root),
                string.Empty,
                "the root element must be Parallels_disk_image",
                BlockErrorKind.WrongFormat);
        }

        if (root.Attribute("Version")?.Value is { } version && version.Trim() != "1.0")
        {
            throw ImageFormatException.InDescriptor(
                file, "Version", XmlFile.LineOf(root), SafeText.Clean(version, 64), "only version 1.0 is known", BlockErrorKind.Unsupported);
        }

        var parameters = XmlFile.Required(root, "Disk_Parameters", file);
        RefusePadding(parameters, file);
        RefuseEncryption(parameters, file);
        RefuseEncryption(root, file);
        var size = XmlFile.Number(XmlFile.Required(parameters, "Disk_size", file), file, MaxSectors);
        var data = XmlFile.Required(root, "StorageData", file);
        var snapshots = XmlFile.Child(root, "Snapshots", file);
        var top = snapshots is null ? null : XmlFile.Child(snapshots, "TopGUID", file);
        if (top is not null && XmlFile.TextOf(top, file).Length == 0)
        {
            top = null;
        }

        return new DiskDescriptor
        {
            File = file,
            DiskSizeSectors = size,
            GeometrySectors = Geometry(parameters, file),
            Uid = OptionalText(parameters, "UID", file),
            Name = OptionalText(parameters, "Name", file),
            Storages = ParseStorages(data, file),
            Shots = snapshots is null ? [] : [.. XmlFile.Children(snapshots, "Shot").Select((shot, i) => ParseShot(shot, i + 1, file))],
            TopId = top is null ? null : XmlFile.GuidOf(top, file),
            TopLine = top is null ? 0 : XmlFile.LineOf(top),
            Volume = XmlFile.Child(data, "Volume", file) is { } volume ? ParseVolume(volume, file) : null,
        };
    }

    private static string? OptionalText(XElement parent, string name, string file) =>
        XmlFile.Child(parent, name, file) is { } child ? SafeText.Clean(XmlFile.TextOf(child, file), MaxNameChars) : null;

    private static void RefusePadding(XElement parameters, string file)
    {
        if (XmlFile.Child(parameters, "Padding", file) is { } padding && XmlFile.TextOf(padding, file) is { Length: > 0 } text
            && XmlFile.Number(padding, file) != 0)
        {
            throw XmlFile.Bad(
                padding, file, text, "a disk with padding cannot be read: nobody outside Parallels knows its layout", BlockErrorKind.Unsupported);
        }
    }

    // Desktop writes the null engine and no data for a disk that is not encrypted; ploop writes a key's id. Whatever else is there:
    // handing out ciphertext as if it were the disk would be worse than refusing.
    private static void RefuseEncryption(XElement parent, string file)
    {
        if (XmlFile.Child(parent, "Encryption", file) is not { } encryption)
        {
            return;
        }

        if (!encryption.HasElements && encryption.Value.Trim() is { Length: > 0 } bare)
        {
            throw Encrypted(encryption, bare);
        }

        foreach (var name in (ReadOnlySpan<string>)["Engine", "Data", "KeyId"])
        {
            foreach (var child in XmlFile.Children(encryption, name))
            {
                var text = child.Value.Trim();
                if (text.Length > 0 && !(name != "Data" && XmlFile.TryGuid(text, out var id) && id == Guid.Empty))
                {
                    throw Encrypted(child, text);
                }
            }
        }

        ImageFormatException Encrypted(XElement element, string text) =>
            XmlFile.Bad(element, file, text, "the disk is encrypted, which is not supported", BlockErrorKind.Unsupported);
    }

    // Many writers round, so that the product is not the size: it only serves check's report.
    private static long? Geometry(XElement parameters, string file)
    {
        long product = 1;
        foreach (var name in (ReadOnlySpan<string>)["Cylinders", "Heads", "Sectors"])
        {
            if (XmlFile.Child(parameters, name, file) is not { } element
                || !Sizes.TryMultiply(product, XmlFile.Number(element, file), out product))
            {
                return null;
            }
        }

        return product;
    }

    private static List<DescriptorStorage> ParseStorages(XElement data, string file)
    {
        List<(DescriptorStorage Storage, XElement Element)> storages =
            [.. XmlFile.Children(data, "Storage").Select((storage, i) => (ParseStorage(storage, i + 1, file), storage))];
        if (storages.Count == 0)
        {
            throw XmlFile.Bad(data, file, string.Empty, "has no Storage");
        }

        storages.Sort((a, b) => a.Storage.StartSector.CompareTo(b.Storage.StartSector));
        long expected = 0;
        DescriptorStorage? before = null;
        foreach (var (storage, element) in storages)
        {
            if (storage.StartSector != expected)
            {
                throw XmlFile.Bad(
                    XmlFile.Required(element, "Start", file),
                    file,
                    $"{storage.StartSector}",
                    before is null ? "the first storage must start at sector 0"
                        : storage.StartSector < expected ? $"overlaps {before.Path}, which ends at sector {expected}"
                        : $"leaves a gap behind {before.Path}, which ends at sector {expected}");
            }

            (expected, before) = (storage.EndSector, storage);
        }

        return [.. storages.Select(s => s.Storage)];
    }

    private static DescriptorStorage ParseStorage(XElement storage, int number, string file)
    {
        var path = $"Storage[{number}]";
        var start = XmlFile.Number(XmlFile.Required(storage, "Start", file), file, MaxSectors);
        var endElement = XmlFile.Required(storage, "End", file);
        var end = XmlFile.Number(endElement, file, MaxSectors);
        if (end <= start)
        {
            throw XmlFile.Bad(endElement, file, $"{end}", $"must be greater than Start ({start})");
        }

        // ploop writes Blocksize always, hand-made descriptors of plain disks do not: it rules nothing here, it is only compared.
        var blockSize = XmlFile.Child(storage, "Blocksize", file) is { } element ? XmlFile.Number(element, file, MaxSectors) : (long?)null;
        var images = new Dictionary<Guid, DescriptorImage>();
        var index = 0;
        foreach (var child in XmlFile.Children(storage, "Image"))
        {
            var image = ParseImage(child, $"{path}/Image[{++index}]", file);
            if (!images.TryAdd(image.Id, image))
            {
                throw XmlFile.Bad(
                    XmlFile.Required(child, "GUID", file), file, $"{image.Id:B}", $"{images[image.Id].Path} has the same GUID");
            }
        }

        return images.Count > 0
            ? new(start, end, blockSize, images, path, XmlFile.LineOf(storage))
            : throw XmlFile.Bad(storage, file, string.Empty, "has no Image");
    }

    private static DescriptorImage ParseImage(XElement image, string path, string file)
    {
        var idElement = XmlFile.Required(image, "GUID", file);
        var id = XmlFile.GuidOf(idElement, file);
        if (id == Guid.Empty)
        {
            throw XmlFile.Bad(idElement, file, $"{id:B}", "an image cannot have the GUID that means \"no parent\"");
        }

        var typeElement = XmlFile.Required(image, "Type", file);
        var type = XmlFile.TextOf(typeElement, file) switch
        {
            "Plain" => DescriptorImageType.Plain,
            "Compressed" => DescriptorImageType.Compressed,
            var other => throw XmlFile.Bad(
                typeElement, file, other, "only Plain and Compressed images are known", BlockErrorKind.Unsupported),
        };
        var fileElement = XmlFile.Required(image, "File", file);
        var name = XmlFile.TextOf(fileElement, file);
        return name.Length is > 0 and <= MaxNameChars
            ? new(id, type, name, path, XmlFile.LineOf(image))
            : throw XmlFile.Bad(fileElement, file, string.Empty, $"must be a name of 1 to {MaxNameChars} characters");
    }

    // Paths are made from the count: asking the element for its place among 100 000 siblings, for each of them, takes for ever.
    private static DescriptorShot ParseShot(XElement shot, int number, string file)
    {
        var idElement = XmlFile.Required(shot, "GUID", file);
        var id = XmlFile.GuidOf(idElement, file);
        return id != Guid.Empty
            ? new(
                id,
                XmlFile.GuidOf(XmlFile.Required(shot, "ParentGUID", file), file),
                $"Snapshots/Shot[{number}]",
                XmlFile.LineOf(shot),
                XmlFile.Child(shot, Editing.DescriptorEditor.MergingMark, file) is not null)
            : throw XmlFile.Bad(idElement, file, $"{id:B}", "a snapshot cannot have the GUID that means \"no parent\"");
    }

    private static DescriptorVolume? ParseVolume(XElement volume, string file)
    {
        if (XmlFile.Child(volume, "Parent", file) is not { } parentElement || XmlFile.TextOf(parentElement, file) is not { Length: > 0 } parent)
        {
            return null;
        }

        var id = XmlFile.GuidOf(XmlFile.Required(volume, "SnapshotGUID", file), file);
        return parent.Length <= MaxNameChars
            ? new(parent, id, "Volume/Parent", XmlFile.LineOf(parentElement))
            : throw XmlFile.Bad(parentElement, file, string.Empty, $"must be a name of at most {MaxNameChars} characters");
    }
}
