using System.Numerics;
using Platter.Core.Errors;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Writing;

// A copy under way says so by an incompatible feature that no reader knows, and by its name: all of them refuse the image and tell why.
internal sealed partial class Qcow2Writer
{
    private const string UnfinishedName = "unfinished copy (platter convert --resume)";
    private static readonly int s_unfinishedBit = BitOperations.TrailingZeroCount((ulong)IncompatibleFeatures.Unfinished);

    /// <inheritdoc/>
    public override async ValueTask<bool> SetUnfinishedAsync(bool unfinished, CancellationToken cancellationToken = default)
    {
        if (_geometry.Version < 3)
        {
            return false;
        }

        await ChangeHeaderAsync(cluster => unfinished ? Unfinished(cluster) : Finished(cluster), cancellationToken).ConfigureAwait(false);
        return true;
    }

    private HeaderCluster Unfinished(HeaderCluster cluster)
    {
        cluster = cluster with { Header = cluster.Header with { Incompatible = cluster.Header.Incompatible | IncompatibleFeatures.Unfinished } };
        var names = cluster.FeatureNames ?? default;
        return FirstThatFits(
            cluster with { FeatureNames = FeatureNameTable.With(names.Span, FeatureKind.Incompatible, s_unfinishedBit, UnfinishedName) },
            cluster with { FeatureNames = FeatureNameTable.With([], FeatureKind.Incompatible, s_unfinishedBit, UnfinishedName) },
            cluster);
    }

    private HeaderCluster Finished(HeaderCluster cluster)
    {
        var names = FeatureNameTable.Without((cluster.FeatureNames ?? default).Span, FeatureKind.Incompatible, s_unfinishedBit);
        cluster = cluster with
        {
            Header = cluster.Header with { Incompatible = cluster.Header.Incompatible & ~IncompatibleFeatures.Unfinished },
            FeatureNames = names.Length > 0 ? names : null,
        };

        // A small header had room for one name only.
        return names.Length > 0 ? cluster : FirstThatFits(cluster with { FeatureNames = FeatureNameTable.KnownNames() }, cluster);
    }

    private HeaderCluster FirstThatFits(params ReadOnlySpan<HeaderCluster> candidates)
    {
        foreach (var candidate in candidates[..^1])
        {
            try
            {
                _ = candidate.ToBytes(_storage.Name);
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
