using System.Globalization;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Create;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>Makes an empty disk as Parallels Desktop makes it: images of layout 1 with the predefined GUID, the descriptor and its copy, and the empty file of the disk's own name.</summary>
/// <remarks>The descriptor comes last, when all that it names is durable: until then the directory is no disk. Of a copy it comes first, under the name that says that the copy is unfinished
/// (<see cref="UnfinishedBundle"/>), and its own copy last.</remarks>
internal static class BundleCreator
{
    /// <summary>The options in the order in which they are told.</summary>
    public static CreateOptionList Options { get; } = new(
        new("size", CreateOptionKind.Size, "Virtual disk size"),
        new("cluster_size", CreateOptionKind.Size, "Cluster size of the images", "1048576"),
        new("split_size", CreateOptionKind.Size, "Split the disk into files for so much of it each (a multiple of the cluster size); 0 for one file"));

    /// <summary>Parts that a split disk may have.</summary>
    public const long MaxStorages = 4096;

    /// <summary>Judges all that needs no directory.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>.</exception>
    public static void Check(long virtualSize, NodeOptions options) => _ = Plan(virtualSize, options);

    /// <summary>Makes the disk in a directory that is empty, or for an unfinished copy in one that has an older such copy.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: as <see cref="Check"/>, or the directory is not empty; others as met, with everything that was made removed.</exception>
    public static async ValueTask RunAsync(StorageDirectory directory, long virtualSize, NodeOptions options, bool unfinished, CancellationToken cancellationToken)
    {
        var plan = Plan(virtualSize, options);

        // A disk that is named by "." or the like is called so by nobody else.
        var own = Path.GetFileName(Path.TrimEndingDirectorySeparator(directory.Name));
        var name = own.EndsWith(".hdd", StringComparison.OrdinalIgnoreCase) ? own : (own.Trim('.').Length == 0 ? "disk" : own) + ".hdd";
        var isFree = unfinished
            ? await UnfinishedBundle.TryClearAsync(directory, name, cancellationToken).ConfigureAwait(false)
            : directory.ListFiles().Count == 0 && directory.ListDirectories().Count == 0;
        if (!isFree)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "the directory is there already and is not empty; nothing in it is overwritten");
        }

        List<string> made = [];
        try
        {
            var files = plan.Ends.Select((_, i) => BundleNaming.ImageFile(name, i, SnapshotTree.PredefinedTop)).ToList();
            var descriptor = Describe(Path.GetFileNameWithoutExtension(name), files, plan);
            if (unfinished)
            {
                made.Add(BundleFiles.UnfinishedName);
                await DurableFiles.ReplaceAsync(directory, BundleFiles.UnfinishedName, descriptor, cancellationToken).ConfigureAwait(false);
            }

            for (var i = 0; i < plan.Ends.Count; i++)
            {
                var start = i == 0 ? 0 : plan.Ends[i - 1];
                var storage = await CreateAsync(files[i]).ConfigureAwait(false);
                await using (storage.ConfigureAwait(false))
                {
                    await ParallelsCreator.MakeAsync(
                        storage, (plan.Ends[i] - start) * Sizes.SectorBytes, plan.ClusterSectors, plan.Version, cancellationToken).ConfigureAwait(false);
                }
            }

            await (await CreateAsync(name).ConfigureAwait(false)).DisposeAsync().ConfigureAwait(false);
            await directory.SynchroniseAsync(cancellationToken).ConfigureAwait(false);
            made.Add(BundleFiles.BackupName);
            await DurableFiles.ReplaceAsync(directory, BundleFiles.BackupName, descriptor, cancellationToken).ConfigureAwait(false);
            if (!unfinished)
            {
                made.Add(BundleFiles.DescriptorName);
                await DurableFiles.ReplaceAsync(directory, BundleFiles.DescriptorName, descriptor, cancellationToken).ConfigureAwait(false);
            }
        }
        catch
        {
            made.Reverse();
            foreach (var file in made)
            {
                await DurableFiles.TryRemoveAsync(directory, file).ConfigureAwait(false);
            }

            throw;
        }

        async ValueTask<Storage> CreateAsync(string file)
        {
            var storage = await directory.CreateFileAsync(file, like: null, cancellationToken).ConfigureAwait(false);
            made.Add(file);
            return storage;
        }
    }

    private static (IReadOnlyList<long> Ends, uint ClusterSectors, int Version) Plan(long virtualSize, NodeOptions given)
    {
        var options = Options.Normalize(given);
        var sectors = Sizes.DivideRoundingUp(virtualSize, Sizes.SectorBytes);
        if (sectors <= 0)
        {
            throw Invalid("a disk without a sector cannot be described");
        }

        var cluster = Sizes.DivideRoundingUp(Number(options, "cluster_size", BundleNaming.DefaultClusterSectors * Sizes.SectorBytes), Sizes.SectorBytes);
        var split = Number(options, "split_size", 0);
        if (cluster == 0 || split % Math.Max(1, cluster * Sizes.SectorBytes) != 0)
        {
            throw Invalid(cluster == 0 ? "Parameter 'cluster_size' is 0" : $"Parameter 'split_size' is {split}: it must be a multiple of the cluster size, {cluster * Sizes.SectorBytes}");
        }

        var part = split == 0 ? sectors : Math.Min(sectors, split / Sizes.SectorBytes);
        if (Sizes.DivideRoundingUp(sectors, part) > MaxStorages)
        {
            throw Invalid($"Parameter 'split_size' is {split}: the disk would have more than {MaxStorages} parts");
        }

        List<long> ends = [];
        for (long end = 0; end < sectors;)
        {
            ends.Add(end = Math.Min(sectors, end + part));
        }

        var version = BundleNaming.VersionFor(part);
        _ = ParallelsCreateSettings.Plan(part * Sizes.SectorBytes, cluster, version);
        return (ends, (uint)cluster, version);
    }

    private static long Number(NodeOptions options, string key, long otherwise) =>
        options[key] is { } text ? ByteCount.TryParse(text, out var bytes) ? bytes : long.MaxValue / 2 : otherwise;

    private static string Describe(string name, IReadOnlyList<string> files, (IReadOnlyList<long> Ends, uint ClusterSectors, int Version) plan)
    {
        var (cylinders, heads, sectors) = DiskGeometry.Of(plan.Ends[^1]);
        var top = $"{SnapshotTree.PredefinedTop:B}";
        var text = new StringBuilder();
        var depth = 0;
        text.Append("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        Open("Parallels_disk_image", " Version=\"1.0\"");
        Open("Disk_Parameters");
        Leaf("Disk_size", plan.Ends[^1]);
        Leaf("Cylinders", cylinders);
        Leaf("PhysicalSectorSize", 4096);
        Leaf("LogicSectorSize", 512);
        Leaf("Heads", heads);
        Leaf("Sectors", sectors);
        Leaf("Padding", 0);
        Open("Encryption");
        Leaf("Engine", $"{Guid.Empty:B}");
        Leaf("Data", string.Empty);
        Close("Encryption");
        Leaf("UID", $"{Guid.NewGuid():B}");
        Leaf("Name", name);
        Open("Miscellaneous");
        Leaf("CompatLevel", "level2");
        Leaf("Bootable", 1);
        Leaf("SuspendState", 0);
        Close("Miscellaneous");
        Close("Disk_Parameters");
        Open("StorageData");
        for (var i = 0; i < files.Count; i++)
        {
            Open("Storage");
            Leaf("Start", i == 0 ? 0 : plan.Ends[i - 1]);
            Leaf("End", plan.Ends[i]);
            Leaf("Blocksize", plan.ClusterSectors);
            Open("Image");
            Leaf("GUID", top);
            Leaf("Type", "Compressed");
            Leaf("File", files[i]);
            Close("Image");
            Close("Storage");
        }

        Close("StorageData");
        Open("Snapshots");
        Open("Shot");
        Leaf("GUID", top);
        Leaf("ParentGUID", $"{Guid.Empty:B}");
        Close("Shot");
        Close("Snapshots");
        Close("Parallels_disk_image");
        return text.ToString();

        void Indent() => text.Append(' ', 4 * depth);

        void Open(string element, string attributes = "")
        {
            Indent();
            text.Append('<').Append(element).Append(attributes).Append(">\n");
            depth++;
        }

        void Close(string element)
        {
            depth--;
            Indent();
            text.Append("</").Append(element).Append(">\n");
        }

        void Leaf(string element, object value)
        {
            Indent();
            var escaped = System.Security.SecurityElement.Escape(Convert.ToString(value, CultureInfo.InvariantCulture));
            text.Append('<').Append(element).Append('>').Append(escaped).Append("</").Append(element).Append(">\n");
        }
    }

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
