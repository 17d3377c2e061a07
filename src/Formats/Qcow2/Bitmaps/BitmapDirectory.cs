using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Bitmaps;

/// <summary>The list of persistent bitmaps.</summary>
internal static class BitmapDirectory
{
    // Directories of a bitmap or two are the rule; a long one is read in more steps.
    private const int ChunkBytes = 64 * 1024;

    /// <summary>Reads and judges the directory that a judged extension points to.</summary>
    public static async ValueTask<IReadOnlyList<BitmapDirectoryEntry>> ReadAsync(
        TableReader reader, Qcow2Geometry geometry, BitmapsExtension bitmaps, long maxBytes, CancellationToken cancellationToken)
    {
        var size = (int)bitmaps.DirectorySize;
        if (size > maxBytes)
        {
            throw new ImageFormatException(
                reader.FileName, "bitmap directory", new((long)bitmaps.DirectoryOffset), "bitmap_directory_size", $"{size}",
                $"the limit is {maxBytes}", BlockErrorKind.LimitExceeded);
        }

        var result = new List<BitmapDirectoryEntry>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        var start = new HostOffset((long)bitmaps.DirectoryOffset);
        var directory = new byte[Math.Min(size, ChunkBytes)];
        await reader.ReadAsync(start, directory, "bitmap directory", -1, cancellationToken).ConfigureAwait(false);
        if (size > ChunkBytes)
        {
            // Only after its first part turned out to be in the file.
            directory = new byte[size];
            await reader.ReadAsync(start, directory, "bitmap directory", -1, cancellationToken).ConfigureAwait(false);
        }

        for (var at = 0; at < size;)
        {
            var index = result.Count;
            if (index >= bitmaps.BitmapCount)
            {
                throw Bad(reader, start, "nb_bitmaps", $"{bitmaps.BitmapCount}", "the directory has more entries");
            }

            var entry = BitmapDirectoryEntry.Parse(directory.AsSpan(at), reader.FileName, index, start + at, out var entrySize);
            entry.Validate(geometry, reader.FileName, index);
            if (!names.Add(entry.Name))
            {
                throw Bad(reader, start + at, "name", $"'{SafeText.Clean(entry.Name, 64)}'", "another bitmap has the same name");
            }

            result.Add(entry with { Raw = directory.AsMemory(at, entrySize) });
            at += entrySize;
        }

        return result.Count == bitmaps.BitmapCount
            ? result
            : throw Bad(reader, start, "nb_bitmaps", $"{bitmaps.BitmapCount}", $"the directory has {result.Count} entries only");
    }

    /// <summary>An entry as users see it.</summary>
    public static BitmapInfo ToInfo(BitmapDirectoryEntry entry) =>
        new(entry.Name, entry.Granularity, entry.IsInconsistent, entry.IsEnabled);

    private static ImageFormatException Bad(TableReader reader, HostOffset at, string field, string value, string problem) =>
        new(reader.FileName, "bitmap directory", at, field, value, problem);
}
