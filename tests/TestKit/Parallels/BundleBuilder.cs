using System.Text;
using System.Xml;
using System.Xml.Linq;

namespace Platter.TestKit;

/// <summary>Builds a Parallels disk bundle (<c>NAME.hdd</c>) from the specification: descriptor, storages, a chain or tree of images.</summary>
/// <remarks>
/// Written from QEMU's <c>docs/interop/prl-xml</c> and from what real bundles look like, independent of Platter's reader. Add layers
/// from the root up; the layer added last is the current state unless <see cref="Top"/> says otherwise. To make a broken bundle, use
/// <see cref="EditDescriptor"/>, <see cref="BundleLayer.Edit"/>, or change the files of the <see cref="BuiltBundle"/>.
/// </remarks>
public sealed class BundleBuilder
{
    /// <summary>GUID of the current state when no <c>TopGUID</c> is given.</summary>
    public static readonly Guid PredefinedTop = new("5fbaabe3-6958-40ff-92a7-860e329aab41");

    /// <summary>GUID of a layer that backup software makes; a layer as others, never the top.</summary>
    public static readonly Guid BackupId = new("704718e1-2314-44c8-9087-d78ed36b0f4e");

    private readonly List<BundleLayer> _layers = [];
    private readonly List<BundleStorage> _storages = [];

    /// <summary>Makes a builder for <c>NAME.hdd</c>.</summary>
    /// <param name="name">Without extension.</param>
    /// <param name="sizeSectors">Size of the disk in sectors.</param>
    /// <param name="clusterSectors">Cluster size of all storages, in sectors.</param>
    /// <param name="splitAtSectors">Where a further storage starts, ascending; none for an ordinary disk.</param>
    public BundleBuilder(string name, long sizeSectors, uint clusterSectors = 2048, params ReadOnlySpan<long> splitAtSectors)
    {
        Name = name + ".hdd";
        SizeSectors = sizeSectors;
        long start = 0;
        foreach (var split in splitAtSectors)
        {
            _storages.Add(new(start, split, clusterSectors));
            start = split;
        }

        _storages.Add(new(start, sizeSectors, clusterSectors));
    }

    /// <summary>Directory name, with ".hdd".</summary>
    public string Name { get; }

    /// <summary>Size of the disk in sectors.</summary>
    public long SizeSectors { get; }

    /// <summary>Size of the disk in bytes.</summary>
    public long SizeBytes => SizeSectors * 512;

    /// <summary>The storages in order.</summary>
    public IReadOnlyList<BundleStorage> Storages => _storages;

    /// <summary>Kind of the expandable images.</summary>
    public ParallelsMagic Magic { get; init; } = ParallelsMagic.WithoutFreeSpace;

    /// <summary>in_use of the images.</summary>
    public uint InUse { get; init; } = ParallelsImageBuilder.InUseClosed;

    /// <summary>flags of the images.</summary>
    public uint Flags { get; init; }

    /// <summary>Writes a <c>TopGUID</c> element. Needed when the top layer has another GUID than the predefined one.</summary>
    public bool WriteTopGuid { get; init; }

    /// <summary>Which layer is the current state; null for the one added last.</summary>
    public BundleLayer? Top { get; set; }

    /// <summary>How images are named in the descriptor.</summary>
    public BundlePathStyle PathStyle { get; init; }

    /// <summary>Where the bundle will be saved (the folder around it), for <see cref="BundlePathStyle.Absolute"/>.</summary>
    public string? Folder { get; init; }

    /// <summary>Text of <c>Padding</c>; null leaves the element out.</summary>
    public string? Padding { get; init; } = "0";

    /// <summary>Content of <c>Encryption</c> inside <c>Disk_Parameters</c>; null leaves it out.</summary>
    public XElement? Encryption { get; init; }

    /// <summary>Writes GUIDs in upper case in <c>Snapshots</c>, as some writers do.</summary>
    public bool UpperCaseShots { get; init; }

    /// <summary>Puts elements and comments into the descriptor that no specification knows, and an unknown file into the directory.</summary>
    public bool WithUnknownContent { get; init; }

    /// <summary>Leaves out <c>Snapshots</c> (old bundles with one layer).</summary>
    public bool WithoutSnapshots { get; init; }

    /// <summary>Last word on the descriptor (and its backup) before it is stored.</summary>
    public Action<XElement>? EditDescriptor { get; init; }

    /// <summary>Adds an image of every storage on top of <paramref name="parent"/>.</summary>
    /// <param name="id">GUID; null for a fixed one made from the number of the layer.</param>
    /// <param name="parent">Null for the layer added last; the first layer has none.</param>
    public BundleLayer AddLayer(Guid? id = null, BundleLayer? parent = null)
    {
        var number = _layers.Count + 1;
        var layer = new BundleLayer(
            this, id ?? new Guid($"{number:x8}-0000-4000-8000-{number:x12}"), parent ?? (_layers.Count > 0 ? _layers[^1] : null));
        _layers.Add(layer);
        return layer;
    }

    /// <summary>Adds the layer that is the current state, under the predefined GUID.</summary>
    public BundleLayer AddTop(BundleLayer? parent = null) => Top = AddLayer(PredefinedTop, parent);

    /// <summary>Gives one storage a cluster size of its own. To be done before the first layer is written.</summary>
    public void SetClusterSectors(int storage, uint clusterSectors) =>
        _storages[storage] = _storages[storage] with { ClusterSectors = clusterSectors };

    /// <summary>Puts it all together. What is broken on purpose is not judged here.</summary>
    public BuiltBundle Build()
    {
        var top = Top ?? _layers[^1];
        var bundle = new BuiltBundle(Name, [.. _layers], top);
        var descriptor = MakeDescriptor(top);
        EditDescriptor?.Invoke(descriptor.Root!);
        var text = ToText(descriptor);
        bundle.SetFile("DiskDescriptor.xml", text);
        bundle.SetFile("DiskDescriptor.xml.Backup", text);

        // Real bundles hold an empty file of their own name.
        bundle.Files[Name] = new SparseBytes();
        foreach (var layer in _layers)
        {
            for (var storage = 0; storage < _storages.Count; storage++)
            {
                bundle.Files[ImageFileName(Name, storage, layer.Id)] = layer.BuildImage(storage);
            }
        }

        if (WithUnknownContent)
        {
            bundle.SetFile(Name + ".drh", "not specified anywhere");
        }

        return bundle;
    }

    /// <summary>Name of an image file.</summary>
    public static string ImageFileName(string bundleName, int storage, Guid id) => $"{bundleName}.{storage}.{id:B}.hds";

    internal long ClusterBytesOf(int storage) => _storages[storage].ClusterSectors * 512L;

    internal uint ClusterSectorsOf(int storage) => _storages[storage].ClusterSectors;

    internal (long Start, long End) RangeOf(int storage) => (_storages[storage].StartSector * 512, _storages[storage].EndSector * 512);

    internal (int Storage, long Start, long End) StorageAt(long guestOffset)
    {
        for (var i = 0; i < _storages.Count; i++)
        {
            var (start, end) = RangeOf(i);
            if (guestOffset >= start && guestOffset < end)
            {
                return (i, start, end);
            }
        }

        throw new ArgumentOutOfRangeException(nameof(guestOffset), $"{guestOffset} lies outside the disk of {SizeBytes} bytes");
    }

    internal static string ToText(XDocument document)
    {
        using var text = new MemoryStream();
        using (var writer = XmlWriter.Create(text, new XmlWriterSettings { Indent = true, IndentChars = "    ", Encoding = new UTF8Encoding(false), NewLineChars = "\n" }))
        {
            document.Save(writer);
        }

        return Encoding.UTF8.GetString(text.ToArray()) + "\n";
    }

    private XDocument MakeDescriptor(BundleLayer top)
    {
        var root = new XElement(
            "Parallels_disk_image",
            new XAttribute("Version", "1.0"),
            MakeParameters(),
            new XElement("StorageData", _storages.Select((s, i) => MakeStorage(s, i))));
        if (!WithoutSnapshots)
        {
            var shots = new XElement("Snapshots");
            if (WriteTopGuid)
            {
                shots.Add(new XElement("TopGUID", Text(top.Id)));
            }

            foreach (var layer in _layers)
            {
                shots.Add(new XElement("Shot", new XElement("GUID", Text(layer.Id)), new XElement("ParentGUID", Text(layer.Parent?.Id ?? Guid.Empty))));
            }

            root.Add(shots);
        }

        if (WithUnknownContent)
        {
            root.AddFirst(new XComment(" kept as it is "));
            root.Add(new XElement("VendorData", new XAttribute("version", "9"), new XElement("Blob", "<&>")));
        }

        return new XDocument(new XDeclaration("1.0", "UTF-8", null), root);
    }

    private XElement MakeParameters()
    {
        // Sixteen heads of 32 sectors where that divides the size; else the whole disk as one track, so that C × H × S is always the size.
        var even = SizeSectors % (16 * 32) == 0;
        var parameters = new XElement(
            "Disk_Parameters",
            new XElement("Disk_size", SizeSectors),
            new XElement("Cylinders", even ? SizeSectors / (16 * 32) : SizeSectors),
            new XElement("PhysicalSectorSize", 4096),
            new XElement("Heads", even ? 16 : 1),
            new XElement("Sectors", even ? 32 : 1));
        if (Padding is not null)
        {
            parameters.Add(new XElement("Padding", Padding));
        }

        if (Encryption is not null)
        {
            parameters.Add(Encryption);
        }

        parameters.Add(
            new XElement("UID", "{0b0e5ac6-1f5e-4d6b-9d67-0d2b7a2f2c11}"),
            new XElement("Name", Path.GetFileNameWithoutExtension(Name)),
            new XElement("Miscellaneous", new XElement("CompatLevel", "level2"), new XElement("Bootable", 1), new XElement("SuspendState", 0)));
        return parameters;
    }

    private XElement MakeStorage(BundleStorage storage, int index) => new(
        "Storage",
        new XElement("Start", storage.StartSector),
        new XElement("End", storage.EndSector),
        new XElement("Blocksize", storage.ClusterSectors),
        _layers.Select(layer => new XElement(
            "Image",
            new XElement("GUID", layer.Id.ToString("B")),
            new XElement("Type", layer.TypeText ?? (layer.Plain ? "Plain" : "Compressed")),
            new XElement("File", FileText(ImageFileName(Name, index, layer.Id))))));

    private string FileText(string file) => PathStyle switch
    {
        BundlePathStyle.Relative => file,
        BundlePathStyle.DotRelative => "./" + file,
        BundlePathStyle.Absolute => Path.Combine(Folder ?? throw new InvalidOperationException("an absolute path needs Folder"), Name, file),
        BundlePathStyle.AbsoluteMoved => $"/Users/somebody/Parallels/old.pvm/{Name}/{file}",
        BundlePathStyle.BackslashedMoved => $@"C:\Users\somebody\Parallels\old.pvm\{Name}\{file}",
        BundlePathStyle.Backslashed => @".\" + file,
        _ => throw new InvalidOperationException(),
    };

    private string Text(Guid id) => UpperCaseShots ? id.ToString("B").ToUpperInvariant() : id.ToString("B");
}
