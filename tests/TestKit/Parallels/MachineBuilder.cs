using System.Xml.Linq;

namespace Platter.TestKit;

/// <summary>Builds a virtual machine directory (<c>NAME.pvm</c>) around one or several disk bundles.</summary>
/// <remarks><c>Snapshots.xml</c> is not specified by anybody. The shape written here, nested <c>SavedStateItem</c> elements with a
/// <c>guid</c> attribute, a <c>Name</c> and a <c>DateTime</c>, follows what is publicly known of real machines; readers should treat
/// it as names for GUIDs and nothing more.</remarks>
public sealed class MachineBuilder(string name)
{
    private readonly List<BuiltBundle> _disks = [];
    private readonly List<(Guid Id, Guid Parent, string Name, string Description, DateTime Time)> _snapshots = [];

    /// <summary>Directory name, with ".pvm".</summary>
    public string Name { get; } = name + ".pvm";

    /// <summary>Adds a disk.</summary>
    public MachineBuilder Add(BuiltBundle disk)
    {
        _disks.Add(disk);
        return this;
    }

    /// <summary>Names a snapshot in <c>Snapshots.xml</c>.</summary>
    /// <param name="id">GUID of the layer that holds the snapshot.</param>
    /// <param name="snapshotName">As the user typed it.</param>
    /// <param name="time">When it was taken (written without a zone, as seen).</param>
    /// <param name="parent">GUID of the snapshot before; empty for the first.</param>
    /// <param name="description">A note of the user.</param>
    public MachineBuilder AddSnapshot(Guid id, string snapshotName, DateTime time, Guid parent = default, string description = "")
    {
        _snapshots.Add((id, parent, snapshotName, description, time));
        return this;
    }

    /// <summary>Puts the directory together. Its layers and current state are those of the first disk.</summary>
    public BuiltBundle Build()
    {
        var machine = new BuiltBundle(Name, _disks.Count > 0 ? _disks[0].Layers : [], _disks.Count > 0 ? _disks[0].TopLayer : null)
        {
            Disks = [.. _disks],
        };
        foreach (var disk in _disks)
        {
            foreach (var (file, bytes) in disk.Files)
            {
                machine.Files[$"{disk.Name}/{file}"] = bytes;
            }
        }

        if (_snapshots.Count > 0)
        {
            var root = new XElement("ParallelsSavedStates", Children(Guid.Empty));
            machine.SetFile("Snapshots.xml", BundleBuilder.ToText(new XDocument(new XDeclaration("1.0", "UTF-8", null), root)));
        }

        machine.SetFile("config.pvs", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ParallelsVirtualMachine schemaVersion=\"1.0\"/>\n");
        return machine;
    }

    private IEnumerable<XElement> Children(Guid parent) => _snapshots.Where(s => s.Parent == parent).Select(s => new XElement(
        "SavedStateItem",
        new XAttribute("guid", s.Id.ToString("B")),
        new XAttribute("state", "poweredOff"),
        new XElement("Name", s.Name),
        new XElement("DateTime", s.Time.ToString("yyyy-MM-dd HH:mm:ss")),
        new XElement("Creator", "tester"),
        new XElement("Description", s.Description),
        s.Id == parent ? null : Children(s.Id)));
}
