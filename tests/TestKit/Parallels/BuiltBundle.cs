using System.Xml.Linq;
using Platter.Core.Storages;

namespace Platter.TestKit;

/// <summary>A built bundle directory (<c>.hdd</c> or <c>.pvm</c>): its files, and what the guest should see at each snapshot.</summary>
public sealed class BuiltBundle
{
    internal BuiltBundle(string name, IReadOnlyList<BundleLayer> layers, BundleLayer? top)
    {
        Name = name;
        Layers = layers;
        TopLayer = top;
    }

    /// <summary>Directory name, with its extension.</summary>
    public string Name { get; }

    /// <summary>Files by path relative to the directory, with '/' between parts. Change or remove them as you like before saving.</summary>
    public Dictionary<string, SparseBytes> Files { get; } = new(StringComparer.Ordinal);

    /// <summary>The layers in the order they were added.</summary>
    public IReadOnlyList<BundleLayer> Layers { get; }

    /// <summary>The current state, unless the bundle was broken so that it has none.</summary>
    public BundleLayer? TopLayer { get; }

    /// <summary>The disks of a machine, as they were added; empty for a disk. Edit a disk before it is added: a machine takes over its files as they are then.</summary>
    public IReadOnlyList<BuiltBundle> Disks { get; internal init; } = [];

    /// <summary>What the guest sees now.</summary>
    public ReferenceDisk Current => TopLayer?.Model ?? throw new InvalidOperationException("the bundle has no current state");

    /// <summary>What the guest saw at a snapshot.</summary>
    public ReferenceDisk ModelOf(Guid id) => Layers.First(l => l.Id == id).Model;

    /// <summary>Name of the image file of a layer.</summary>
    public string ImageName(BundleLayer layer, int storage = 0) => BundleBuilder.ImageFileName(Name, storage, layer.Id);

    /// <summary>The image file of a layer.</summary>
    public SparseBytes ImageOf(BundleLayer layer, int storage = 0) => Files[ImageName(layer, storage)];

    /// <summary>The descriptor as text.</summary>
    public string DescriptorText => System.Text.Encoding.UTF8.GetString(Files["DiskDescriptor.xml"].ToArray());

    /// <summary>Changes the descriptor after building (its <c>.Backup</c> stays as it was).</summary>
    public BuiltBundle EditDescriptor(Action<XElement> edit)
    {
        var document = XDocument.Parse(DescriptorText, LoadOptions.PreserveWhitespace);
        edit(document.Root!);
        return SetFile("DiskDescriptor.xml", BundleBuilder.ToText(document));
    }

    /// <summary>Changes the text of the descriptor, for what is no XML.</summary>
    public BuiltBundle EditDescriptorText(Func<string, string> edit) => SetFile("DiskDescriptor.xml", edit(DescriptorText));

    /// <summary>Adds or replaces a text file.</summary>
    public BuiltBundle SetFile(string name, string text)
    {
        Files[name] = SparseBytes.From(System.Text.Encoding.UTF8.GetBytes(text));
        return this;
    }

    /// <summary>Removes a file.</summary>
    public BuiltBundle Remove(string name)
    {
        Files.Remove(name);
        return this;
    }

    /// <summary>Writes the directory under a folder.</summary>
    /// <returns>Path of the directory.</returns>
    public string SaveTo(string folder)
    {
        var path = Path.Combine(folder, Name);
        Directory.CreateDirectory(path);
        foreach (var (name, bytes) in Files)
        {
            var file = Path.Combine(path, name);
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            bytes.SaveTo(file);
        }

        return path;
    }

    /// <summary>A directory in memory over the files.</summary>
    public StorageDirectory ToDirectory() => new SparseDirectory(Name, Files);
}
