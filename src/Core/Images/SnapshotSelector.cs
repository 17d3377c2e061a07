using Platter.Core.Errors;

namespace Platter.Core.Images;

/// <summary>Which internal snapshot is meant: by id, by name, or by a text that may be either (tried as id first).</summary>
public sealed record SnapshotSelector(string? Id, string? Name, string? IdOrName)
{
    /// <summary>Parses the argument of <c>-l</c>: <c>snapshot.id=…,snapshot.name=…</c> or a plain text.</summary>
    public static SnapshotSelector Parse(string text)
    {
        if (!text.StartsWith("snapshot.", StringComparison.Ordinal))
        {
            return new(null, null, text);
        }

        string? id = null, name = null;
        foreach (var (key, value) in NodeOptions.SplitKeyValues(text))
        {
            switch (key)
            {
                case "snapshot.id":
                    id = value;
                    break;
                case "snapshot.name":
                    name = value;
                    break;
                default:
                    throw new BlockException(BlockErrorKind.InvalidRequest, $"invalid snapshot option '{SafeText.Clean(key, 64)}'");
            }
        }

        return new(id, name, null);
    }

    /// <summary>Finds the snapshot, or null.</summary>
    public SnapshotInfo? FindIn(IReadOnlyList<SnapshotInfo> snapshots)
    {
        if (IdOrName is { } either)
        {
            return snapshots.FirstOrDefault(s => s.Id == either) ?? snapshots.FirstOrDefault(s => s.Name == either);
        }

        return snapshots.FirstOrDefault(s => (Id is null || s.Id == Id) && (Name is null || s.Name == Name) && (Id ?? Name) is not null);
    }

    /// <inheritdoc/>
    public override string ToString() => IdOrName ?? (Id is null ? $"name {Name}" : Name is null ? $"id {Id}" : $"id {Id}, name {Name}");
}
