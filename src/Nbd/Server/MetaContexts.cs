using Platter.Nbd.Protocol;

namespace Platter.Nbd.Server;

/// <summary>The metadata contexts of an export: which there are, which of them a query means, and the ids they have.</summary>
/// <remarks>An id is fixed for an export, so that clients that select in different orders still get the same one:
/// 0 <c>base:allocation</c>, 1 <c>qemu:allocation-depth</c>, from 2 on the bitmaps.</remarks>
internal static class MetaContexts
{
    /// <summary>Id of <c>base:allocation</c>.</summary>
    public const uint Allocation = 0;

    /// <summary>Id of <c>qemu:allocation-depth</c>.</summary>
    public const uint Depth = 1;

    /// <summary>Id of the first bitmap.</summary>
    public const uint FirstBitmap = 2;

    private const string BaseNamespace = "base:";
    private const string QemuNamespace = "qemu:";

    /// <summary>The name of a context.</summary>
    public static string NameOf(NbdExport export, uint id) => id switch
    {
        Allocation => NbdProtocol.AllocationContext,
        Depth => NbdProtocol.DepthContext,
        _ => NbdProtocol.BitmapContextPrefix + export.Bitmaps[(int)(id - FirstBitmap)].Name,
    };

    /// <summary>What an export has of what was asked for, in the order of ids.</summary>
    /// <param name="export">The export.</param>
    /// <param name="queries">As the client sent them; none means everything, when it only asks for a list.</param>
    /// <param name="selects">Whether contexts are chosen; wildcards only help to list them.</param>
    public static SortedSet<uint> Find(NbdExport export, IReadOnlyList<string> queries, bool selects)
    {
        var found = new SortedSet<uint>();
        if (queries.Count == 0 && !selects)
        {
            AddAll(export, found);
        }

        foreach (var query in queries)
        {
            Add(export, query, selects, found);
        }

        return found;
    }

    private static void Add(NbdExport export, string query, bool selects, SortedSet<uint> found)
    {
        if (query == NbdProtocol.AllocationContext || (!selects && query == BaseNamespace))
        {
            found.Add(Allocation);
        }
        else if (query == NbdProtocol.DepthContext && export.TellsDepth)
        {
            found.Add(Depth);
        }
        else if (!selects && query == QemuNamespace)
        {
            AddAll(export, found);
            found.Remove(Allocation);
        }
        else if (query.StartsWith(NbdProtocol.BitmapContextPrefix, StringComparison.Ordinal))
        {
            AddBitmaps(export, query[NbdProtocol.BitmapContextPrefix.Length..], selects, found);
        }
    }

    private static void AddBitmaps(NbdExport export, string name, bool selects, SortedSet<uint> found)
    {
        for (var i = 0; i < export.Bitmaps.Count; i++)
        {
            if (export.Bitmaps[i].Name == name || (!selects && name.Length == 0))
            {
                found.Add(FirstBitmap + (uint)i);
            }
        }
    }

    private static void AddAll(NbdExport export, SortedSet<uint> found)
    {
        found.Add(Allocation);
        if (export.TellsDepth)
        {
            found.Add(Depth);
        }

        AddBitmaps(export, string.Empty, selects: false, found);
    }
}
