using System.Globalization;
using Platter.Core.Errors;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary><c>DiskDescriptor.xml</c>, changed in place: what is not meant stays as it is, to the last character.</summary>
/// <remarks>Every change is one of the text alone; <see cref="Finish"/> judges the result as a reader would. Not thread-safe.</remarks>
internal sealed class DescriptorEditor
{
    /// <summary>A mark of ours inside a <c>Shot</c>: the snapshot has been deleted, and its images are on their way into others. Unknown elements are everybody's to ignore.</summary>
    public const string MergingMark = "Merging";

    // What says how one snapshot is to be treated (ploop drops temporary ones) is nothing for another.
    private static readonly string[] s_ownMarks = [MergingMark, "Temporary", "TemporaryZero", "TemporaryZeroSwap"];

    private readonly string _file;
    private readonly XmlText _xml;

    private DescriptorEditor(XmlText xml, string file) => (_xml, _file) = (xml, file);

    /// <summary>Takes the bytes of a descriptor that was read and judged.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: its encoding cannot be written back.</exception>
    public static DescriptorEditor Parse(ReadOnlySpan<byte> bytes, string file) => new(XmlText.Parse(bytes, file), file);

    /// <summary>Writes the legacy <c>Shot</c>s out that a reader has to imagine.</summary>
    public void CompleteShots(SnapshotTree tree)
    {
        if (XmlText.Child(_xml.Root, "Snapshots") is null)
        {
            _xml.Append(_xml.Root, new("Snapshots"));
        }

        // What a reader has to imagine has no place of its own in the file.
        foreach (var shot in tree.Shots.Where(shot => shot.Line == 0))
        {
            AddShot(shot.Id, shot.ParentId);
        }
    }

    /// <summary>Lets an image be another file.</summary>
    public void SetFile(DescriptorStorage storage, Guid id, string file, DescriptorImageType type)
    {
        _xml.SetText(Leaf(Image(storage, id), "File"), file);
        _xml.SetText(Leaf(Image(storage, id), "Type"), type.ToString());
    }

    /// <summary>Forgets the image of a snapshot in a storage, if it has one.</summary>
    public void RemoveImage(DescriptorStorage storage, Guid id)
    {
        if (FindImage(storage, id) is { } image)
        {
            _xml.Remove(image);
        }
    }

    /// <summary>Makes two states of one: its <c>Image</c>s and its <c>Shot</c> are there twice, the copy directly behind, with all that is in them.</summary>
    /// <param name="id">The state. Whichever of the two keeps this GUID keeps what only concerns it.</param>
    /// <param name="first">GUID of the entries that come first.</param>
    /// <param name="second">GUID of the copies.</param>
    /// <remarks>Files and parents are still the same for both, and those on top still name <paramref name="id"/>.</remarks>
    public void Split(Guid id, Guid first, Guid second)
    {
        for (var i = 0; i < Storages().Count; i++)
        {
            if (ImageOf(i) is { } image)
            {
                _xml.Duplicate(image);
                if (second != id)
                {
                    _xml.SetText(Leaf(XmlText.Children(Storages()[i], "Image").Last(IsMeant), "GUID"), $"{second:B}");
                }

                if (first != id)
                {
                    _xml.SetText(Leaf(ImageOf(i)!, "GUID"), $"{first:B}");
                }
            }
        }

        _xml.Duplicate(Shot(id));
        if (second != id)
        {
            _xml.SetText(Leaf(XmlText.Children(Snapshots(), "Shot").Last(IsMeant), "GUID"), $"{second:B}");
        }

        if (first != id)
        {
            _xml.SetText(Leaf(Shot(id), "GUID"), $"{first:B}");
        }

        var added = first == id ? second : first;
        foreach (var mark in s_ownMarks)
        {
            while (XmlText.Child(Shot(added), mark) is { } element)
            {
                _xml.Remove(element);
            }
        }

        bool IsMeant(XmlText.Element element) => Is(element, "GUID", id);

        XmlText.Element? ImageOf(int storage) => XmlText.Children(Storages()[storage], "Image").FirstOrDefault(IsMeant);
    }

    /// <summary>Lets all that stand on a snapshot stand on another one.</summary>
    public void MoveChildren(Guid from, Guid to)
    {
        while (XmlText.Children(Snapshots(), "Shot").FirstOrDefault(shot => Is(shot, "ParentGUID", from)) is { } shot)
        {
            _xml.SetText(Leaf(shot, "ParentGUID"), $"{to:B}");
        }
    }

    /// <summary>Adds a snapshot behind the others.</summary>
    public void AddShot(Guid id, Guid parent) =>
        _xml.Append(Snapshots(), new("Shot") { Children = [new("GUID", $"{id:B}"), new("ParentGUID", $"{parent:B}")] });

    /// <summary>Forgets a snapshot; its images are another matter.</summary>
    public void RemoveShot(Guid id) => _xml.Remove(Shot(id));

    /// <summary>Says what a snapshot stands on.</summary>
    public void SetParent(Guid id, Guid parent) => _xml.SetText(Leaf(Shot(id), "ParentGUID"), $"{parent:B}");

    /// <summary>Marks a snapshot as deleted, its images as still needed.</summary>
    public void MarkMerging(Guid id) => _xml.Append(Shot(id), new(MergingMark));

    /// <summary>Says which state is the current one, where the file says so at all or has to.</summary>
    public void SetTop(Guid id)
    {
        if (XmlText.Child(Snapshots(), "TopGUID") is { } top)
        {
            _xml.SetText(top, $"{id:B}");
        }
        else if (id != SnapshotTree.PredefinedTop)
        {
            _xml.Append(Snapshots(), new("TopGUID", $"{id:B}"));
        }
    }

    /// <summary>Changes the size of the disk: its number of sectors, its geometry, and the end of one storage.</summary>
    public void SetSize(long sectors, DescriptorStorage storage, long endSector)
    {
        var (cylinders, heads, sectorsPerTrack) = DiskGeometry.Of(sectors);
        foreach (var (name, value) in (ReadOnlySpan<(string, long)>)
            [("Disk_size", sectors), ("Cylinders", cylinders), ("Heads", heads), ("Sectors", sectorsPerTrack)])
        {
            if (XmlText.Child(XmlText.Child(_xml.Root, "Disk_Parameters")!, name) is { } leaf)
            {
                _xml.SetText(leaf, value.ToString(CultureInfo.InvariantCulture));
            }
        }

        _xml.SetText(Leaf(Storage(storage), "End"), endSector.ToString(CultureInfo.InvariantCulture));
    }

    /// <summary>Adds storages behind one that they are copies of, but for where they are and the files of their images; images that they shall not have are left out.</summary>
    public void AddStorages(DescriptorStorage like, IReadOnlyList<NewStorage> parts)
    {
        if (parts.Count == 0)
        {
            return;
        }

        var element = Storage(like);
        List<string> copies = [];
        foreach (var part in parts)
        {
            var copy = _xml.Extract(element);
            copy.SetText(Leaf(copy.Root, "Start"), part.StartSector.ToString(CultureInfo.InvariantCulture));
            copy.SetText(Leaf(copy.Root, "End"), part.EndSector.ToString(CultureInfo.InvariantCulture));
            for (var i = XmlText.Children(copy.Root, "Image").Count() - 1; i >= 0; i--)
            {
                var image = XmlText.Children(copy.Root, "Image").ElementAt(i);
                if (XmlFile.TryGuid(copy.TextOf(Leaf(image, "GUID")), out var id) && part.Images.TryGetValue(id, out var file))
                {
                    copy.SetText(Leaf(image, "File"), file.File);
                }
                else
                {
                    copy.Remove(image);
                }
            }

            copies.Add(copy.Text);
        }

        _xml.InsertBehind(element, copies);
    }

    /// <summary>Forgets a storage with its images.</summary>
    public void RemoveStorage(DescriptorStorage storage) => _xml.Remove(Storage(storage));

    /// <summary>The changed file, judged as every reader will judge it.</summary>
    /// <exception cref="BlockException">It could not be read any more; nothing has been written.</exception>
    public (byte[] Bytes, DiskDescriptor Descriptor, SnapshotTree Tree) Finish()
    {
        var bytes = _xml.ToBytes();
        var descriptor = DescriptorParser.Parse(XmlFile.Load(bytes, _file), _file);
        return (bytes, descriptor, SnapshotTree.Build(descriptor));
    }

    private XmlText.Element Storage(DescriptorStorage storage)
    {
        // By what it is: the descriptor's storages are sorted, the file's need not be, and may have become fewer.
        return Storages().Find(element => StartOf(element) == storage.StartSector) ?? throw Lost(storage.Path);
    }

    private List<XmlText.Element> Storages() => [.. XmlText.Children(XmlText.Child(_xml.Root, "StorageData")!, "Storage")];

    private long StartOf(XmlText.Element storage)
    {
        var text = XmlText.Child(storage, "Start") is { } start ? _xml.TextOf(start) : string.Empty;
        return text.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
            ? long.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var sector) ? sector : -1
            : long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out sector) ? sector : -1;
    }

    private XmlText.Element Snapshots() => XmlText.Child(_xml.Root, "Snapshots") ?? throw Lost("Snapshots");

    private XmlText.Element? FindImage(DescriptorStorage storage, Guid id) => XmlText.Children(Storage(storage), "Image").FirstOrDefault(image => Is(image, "GUID", id));

    private XmlText.Element Image(DescriptorStorage storage, Guid id) => FindImage(storage, id) ?? throw Lost($"{storage.Path}/Image {id:B}");

    private XmlText.Element? ShotOf(Guid id) => XmlText.Children(Snapshots(), "Shot").FirstOrDefault(shot => Is(shot, "GUID", id));

    private XmlText.Element Shot(Guid id) => ShotOf(id) ?? throw Lost($"Shot {id:B}");

    private XmlText.Element Leaf(XmlText.Element parent, string name) => XmlText.Child(parent, name) ?? throw Lost($"{parent.Name}/{name}");

    private bool Is(XmlText.Element parent, string name, Guid id) =>
        XmlText.Child(parent, name) is { } leaf && XmlFile.TryGuid(_xml.TextOf(leaf), out var found) && found == id;

    private BlockException Lost(string what) =>
        new(BlockErrorKind.Unsupported, $"{_file}: {what} is written in a way that cannot be changed in place");
}
