using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Parallels bundles and machines: the descriptor, <c>Snapshots.xml</c>, and now and then an image under them.</summary>
internal sealed class BundleTarget : FuzzTarget
{
    private const string Disk = "disk.hdd", Machine = "vm.pvm";
    private const string Descriptor = "/DiskDescriptor.xml";

    private static readonly Lazy<FuzzInput[]> s_seeds = new(() => [Tree(), Split(), Clone(), VirtualMachine()]);

    public override string Name => "bundle";

    public override int BoundedCases => 2500;

    public override FuzzInput Make(Random random)
    {
        var input = s_seeds.Value[random.Next(s_seeds.Value.Length)].Clone();
        if (random.Next(8) == 0)
        {
            var images = input.Files.Keys.Where(f => f.EndsWith(".hds", StringComparison.Ordinal)).ToArray();
            var image = input.Files[images[random.Next(images.Length)]];
            Mutator.Mutate(image, image.Length > 64 && image.U32Le(16) == 2 ? ParallelsFields.Find(image) : [], random);
            return input;
        }

        var texts = input.Files.Keys.Where(f => f.EndsWith(".xml", StringComparison.Ordinal)).ToArray();
        var text = random.Next(3) == 0 ? texts[random.Next(texts.Length)] : input.Main;
        input.Files[text] = SparseBytes.From(TextMutator.MutateXml(input.Files[text].ToArray(), random));
        return input;
    }

    /// <summary>A descriptor that was found, in place of a good one.</summary>
    public override FuzzInput FromFinding(byte[] bytes)
    {
        var input = s_seeds.Value[0].Clone();
        input.MainBytes = SparseBytes.From(bytes);
        return input;
    }

    public override ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken) =>
        new Workout(input, random, cancellationToken).RunAsync(null);

    private static FuzzInput Tree()
    {
        var builder = new BundleBuilder("disk", 8 * 40, 8);
        var root = builder.AddLayer().FillRandom(1, 0.4);
        var second = builder.AddLayer(parent: root).FillRandom(2, 0.3);
        builder.AddLayer(BundleBuilder.BackupId, root).FillRandom(3, 0.3);
        builder.AddTop(second).FillRandom(4, 0.2);
        return Of(builder.Build(), Disk);
    }

    private static FuzzInput Split()
    {
        var builder = new BundleBuilder("disk", 8 * 40, 8, 101, 8 * 20) { WriteTopGuid = true, WithUnknownContent = true, PathStyle = BundlePathStyle.BackslashedMoved };
        builder.AddLayer().Plain = true;
        builder.AddLayer().FillRandom(2, 0.3);
        return Of(builder.Build(), Disk);
    }

    // A linked clone, whose root lies in a snapshot of another bundle.
    private static FuzzInput Clone()
    {
        var parent = new BundleBuilder("base", 8 * 20, 8);
        parent.AddLayer().FillRandom(5, 0.5);
        parent.AddTop().FillRandom(6, 0.5);
        var below = parent.Build();
        var builder = new BundleBuilder("disk", 8 * 20, 8)
        {
            EditDescriptor = root => root.Element("StorageData")!.Add(new System.Xml.Linq.XElement(
                "Volume",
                new System.Xml.Linq.XElement("Parent", "../base.hdd"),
                new System.Xml.Linq.XElement("SnapshotGUID", below.Layers[0].Id.ToString("B")))),
        };
        builder.AddTop().FillRandom(7, 0.2);
        var input = Of(builder.Build(), Disk);
        foreach (var (name, bytes) in below.Files)
        {
            input.Files[$"{Disk}/../base.hdd/{name}"] = bytes;
        }

        return input;
    }

    private static FuzzInput VirtualMachine()
    {
        var builder = new BundleBuilder("disk", 8 * 20, 8);
        var root = builder.AddLayer().FillRandom(8, 0.5);
        builder.AddTop(root).FillRandom(9, 0.5);
        var machine = new MachineBuilder("vm").Add(builder.Build()).AddSnapshot(root.Id, "fresh", new DateTime(2024, 1, 2, 3, 4, 5)).Build();
        return new FuzzInput($"{Machine}/{Disk}{Descriptor}", machine.Files.Select(f => KeyValuePair.Create($"{Machine}/{f.Key}", f.Value))) { OpenName = Machine };
    }

    private static FuzzInput Of(BuiltBundle bundle, string name) =>
        new(name + Descriptor, bundle.Files.Select(f => KeyValuePair.Create($"{name}/{f.Key}", f.Value))) { OpenName = name };
}
