using Platter.Core.Errors;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>The snapshots of a bundle as a tree: one root, no loops, every parent known. Pure.</summary>
/// <remarks>Spec: qemu <c>docs/interop/prl-xml</c>, "Snapshots element"; the legacy rules are those of OpenVZ's ploop.</remarks>
internal sealed class SnapshotTree
{
    /// <summary>The current state's GUID unless <c>TopGUID</c> names another.</summary>
    public static readonly Guid PredefinedTop = new("5fbaabe3-6958-40ff-92a7-860e329aab41");

    /// <summary>GUID that backup software gives its snapshot; an ordinary layer, never the top.</summary>
    public static readonly Guid BackupId = new("704718e1-2314-44c8-9087-d78ed36b0f4e");

    private readonly Dictionary<Guid, DescriptorShot> _byId;
    private readonly DiskDescriptor _descriptor;

    private SnapshotTree(DiskDescriptor descriptor, IReadOnlyList<DescriptorShot> shots, Dictionary<Guid, DescriptorShot> byId, DescriptorShot root)
    {
        _descriptor = descriptor;
        _byId = byId;
        Shots = shots;
        Root = root;
        TopId = descriptor.TopId ?? (byId.ContainsKey(PredefinedTop) ? PredefinedTop : null);
    }

    /// <summary>Every snapshot and the current state, in document order.</summary>
    public IReadOnlyList<DescriptorShot> Shots { get; }

    /// <summary>The one without a parent.</summary>
    public DescriptorShot Root { get; }

    /// <summary>The current state, or null when the descriptor names none.</summary>
    public Guid? TopId { get; }

    /// <summary>Builds and judges the tree.</summary>
    /// <exception cref="ImageFormatException">Duplicates, loops, several roots or none, unknown parents, an impossible top.</exception>
    public static SnapshotTree Build(DiskDescriptor descriptor)
    {
        var shots = WithLegacyShot(descriptor);
        var byId = new Dictionary<Guid, DescriptorShot>(shots.Count);
        foreach (var shot in shots)
        {
            if (!byId.TryAdd(shot.Id, shot))
            {
                throw Bad(descriptor, shot, "GUID", shot.Id, $"{byId[shot.Id].Path} has the same GUID");
            }
        }

        DescriptorShot? root = null;
        foreach (var shot in shots)
        {
            if (shot.ParentId == Guid.Empty)
            {
                root = root is null ? shot : throw Bad(
                    descriptor, shot, "ParentGUID", shot.ParentId, $"there can be one root only, and {root.Path} is one already");
            }
            else if (!byId.ContainsKey(shot.ParentId))
            {
                throw Bad(descriptor, shot, "ParentGUID", shot.ParentId, "there is no such snapshot");
            }
        }

        RefuseLoops(descriptor, shots, byId);
        if (root is null)
        {
            // Without a root every snapshot would hang on a loop, which has been refused; so there is none at all.
            throw ImageFormatException.InDescriptor(descriptor.File, "Snapshots", 0, string.Empty, "has no Shot");
        }

        if (descriptor.TopId is { } top)
        {
            var problem = top == BackupId ? "this GUID is reserved for backups and cannot be the current state"
                : byId.ContainsKey(top) ? null
                : "there is no such snapshot";
            if (problem is not null)
            {
                throw ImageFormatException.InDescriptor(descriptor.File, "Snapshots/TopGUID", descriptor.TopLine, $"{top:B}", problem);
            }
        }

        return new(descriptor, shots, byId, root);
    }

    /// <summary>The snapshot of that GUID, or null.</summary>
    public DescriptorShot? Find(Guid id) => _byId.GetValueOrDefault(id);

    /// <summary>The current state.</summary>
    /// <exception cref="ImageFormatException">The descriptor names none; the message lists the snapshots nothing was made on.</exception>
    public DescriptorShot Top()
    {
        if (TopId is { } id)
        {
            return _byId[id];
        }

        var parents = Shots.Select(s => s.ParentId).ToHashSet();
        var leaves = string.Join(", ", Shots.Where(s => !parents.Contains(s.Id)).Take(8).Select(s => $"{s.Id:B}"));
        throw ImageFormatException.InDescriptor(
            _descriptor.File,
            "Snapshots/TopGUID",
            0,
            string.Empty,
            $"is missing, and no Shot has the predefined GUID {PredefinedTop:B}: choose a snapshot; the newest are {leaves}");
    }

    /// <summary>A snapshot and all it stands on, the root last.</summary>
    public List<DescriptorShot> ChainOf(DescriptorShot shot)
    {
        List<DescriptorShot> chain = [shot];
        while (shot.ParentId != Guid.Empty)
        {
            chain.Add(shot = _byId[shot.ParentId]);
        }

        return chain;
    }

    /// <summary>How many layers lie under each snapshot.</summary>
    public Dictionary<Guid, int> Depths()
    {
        var depths = new Dictionary<Guid, int>(Shots.Count);
        var pending = new Stack<DescriptorShot>();
        foreach (var shot in Shots)
        {
            var current = shot;
            while (!depths.ContainsKey(current.Id))
            {
                pending.Push(current);
                if (current.ParentId == Guid.Empty)
                {
                    break;
                }

                current = _byId[current.ParentId];
            }

            while (pending.TryPop(out var next))
            {
                depths[next.Id] = next.ParentId == Guid.Empty ? 0 : depths[next.ParentId] + 1;
            }
        }

        return depths;
    }

    // Old descriptors have no Shot for the current state, or no Snapshots at all when there is one image.
    private static IReadOnlyList<DescriptorShot> WithLegacyShot(DiskDescriptor descriptor)
    {
        var images = descriptor.Storages[0].Images;
        if (descriptor.Shots.Count == 0)
        {
            return images.Count == 1
                ? [new DescriptorShot(images.Keys.First(), Guid.Empty, "Snapshots", 0)]
                : throw ImageFormatException.InDescriptor(
                    descriptor.File,
                    "Snapshots",
                    0,
                    string.Empty,
                    $"has no Shot, but {descriptor.Storages[0].Path} has {images.Count} images whose order nobody can know");
        }

        return images.Count == descriptor.Shots.Count + 1 && images.ContainsKey(PredefinedTop)
            && !descriptor.Shots.Any(s => s.Id == PredefinedTop)
            ? [.. descriptor.Shots, new DescriptorShot(PredefinedTop, Guid.Empty, "Snapshots", 0)]
            : descriptor.Shots;
    }

    private static void RefuseLoops(DiskDescriptor descriptor, IReadOnlyList<DescriptorShot> shots, Dictionary<Guid, DescriptorShot> byId)
    {
        // Every walk upwards ends at the root, at something an earlier walk has passed, or at its own trail: each snapshot is visited once.
        var passed = new Dictionary<Guid, int>(shots.Count);
        for (var walk = 0; walk < shots.Count; walk++)
        {
            for (var current = shots[walk]; ; current = byId[current.ParentId])
            {
                if (!passed.TryAdd(current.Id, walk))
                {
                    if (passed[current.Id] == walk)
                    {
                        throw Bad(descriptor, current, "ParentGUID", current.ParentId, "the snapshot is its own ancestor");
                    }

                    break;
                }

                if (current.ParentId == Guid.Empty)
                {
                    break;
                }
            }
        }
    }

    private static ImageFormatException Bad(DiskDescriptor descriptor, DescriptorShot shot, string element, Guid value, string problem) =>
        ImageFormatException.InDescriptor(descriptor.File, $"{shot.Path}/{element}", shot.Line, $"{value:B}", problem);
}
