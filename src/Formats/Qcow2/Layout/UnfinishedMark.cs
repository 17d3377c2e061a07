using System.Numerics;
using Platter.Core.Errors;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>How an image says that it is an unfinished copy: by an incompatible feature that no reader knows, and by its name. All of them refuse the image and tell why.</summary>
internal static class UnfinishedMark
{
    private const string Name = "unfinished copy (platter convert --resume)";
    private static readonly int s_bit = BitOperations.TrailingZeroCount((ulong)IncompatibleFeatures.Unfinished);

    /// <summary>Whether nobody else has given the feature another name.</summary>
    public static bool IsOurs(FeatureNameTable names) => names.Find(FeatureKind.Incompatible, s_bit) is null or Name;

    /// <summary>What an image with the mark is refused with.</summary>
    public static BlockException Refused(string file) => new(
        BlockErrorKind.Unsupported,
        $"{file}: an {Name}: copying into it was interrupted; the same 'platter convert' command replaces it, or (without --snapshots) with --resume goes on with it");

    /// <summary>The header of an image of version 3 with the mark.</summary>
    public static HeaderCluster On(HeaderCluster cluster)
    {
        cluster = cluster with { Header = cluster.Header with { Incompatible = cluster.Header.Incompatible | IncompatibleFeatures.Unfinished } };
        var names = cluster.FeatureNames ?? default;
        return FirstThatFits(
            cluster with { FeatureNames = FeatureNameTable.With(names.Span, FeatureKind.Incompatible, s_bit, Name) },
            cluster with { FeatureNames = FeatureNameTable.With([], FeatureKind.Incompatible, s_bit, Name) },
            cluster);
    }

    /// <summary>The header without it.</summary>
    public static HeaderCluster Off(HeaderCluster cluster)
    {
        var names = FeatureNameTable.Without((cluster.FeatureNames ?? default).Span, FeatureKind.Incompatible, s_bit);
        cluster = cluster with
        {
            Header = cluster.Header with { Incompatible = cluster.Header.Incompatible & ~IncompatibleFeatures.Unfinished },
            FeatureNames = names.Length > 0 ? names : null,
        };

        // A small header had room for one name only.
        return names.Length > 0 ? cluster : FirstThatFits(cluster with { FeatureNames = FeatureNameTable.KnownNames() }, cluster);
    }

    private static HeaderCluster FirstThatFits(params ReadOnlySpan<HeaderCluster> candidates)
    {
        foreach (var candidate in candidates[..^1])
        {
            try
            {
                _ = candidate.ToBytes(string.Empty);
                return candidate;
            }
            catch (BlockException)
            {
                // The next one is shorter.
            }
        }

        return candidates[^1];
    }
}
