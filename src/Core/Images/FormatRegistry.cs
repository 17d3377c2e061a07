using Platter.Core.Errors;

namespace Platter.Core.Images;

/// <summary>The formats that an opener knows. Immutable.</summary>
public sealed class FormatRegistry
{
    /// <summary>Bytes that probing looks at.</summary>
    public const int ProbeBytes = 2048;

    private readonly ImageFormat[] _formats;
    private readonly BundleFormat[] _bundles;

    /// <summary>Lists the formats; the order only decides between equal scores.</summary>
    public FormatRegistry(IEnumerable<ImageFormat> formats, IEnumerable<BundleFormat> bundles)
    {
        _formats = [.. formats];
        _bundles = [.. bundles];
    }

    /// <summary>All formats of single images.</summary>
    public IReadOnlyList<ImageFormat> Formats => _formats;

    /// <summary>All formats of bundles.</summary>
    public IReadOnlyList<BundleFormat> Bundles => _bundles;

    /// <summary>Whether a format of that name is known.</summary>
    public bool Knows(string name) => _formats.Any(f => f.Name == name) || _bundles.Any(b => b.Name == name);

    /// <summary>The options of a new image or bundle of a format; empty when it cannot be made, or nobody knows the format.</summary>
    public CreateOptionList CreateOptionsOf(string name) =>
        _formats.FirstOrDefault(f => f.Name == name)?.CreateOptions ?? _bundles.FirstOrDefault(b => b.Name == name)?.CreateOptions ?? CreateOptionList.Empty;

    /// <summary>The bundle format of that name, or null.</summary>
    public BundleFormat? FindBundle(string name) => _bundles.FirstOrDefault(b => b.Name == name);

    /// <summary>The format of that name.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.WrongFormat"/>: unknown.</exception>
    public ImageFormat Get(string name) => _formats.FirstOrDefault(f => f.Name == name)
        ?? throw new BlockException(BlockErrorKind.WrongFormat, $"Unknown driver '{SafeText.Clean(name, 64)}'");

    /// <summary>The format that recognises the first bytes best. Raw answers to anything, with the lowest score.</summary>
    public ImageFormat Probe(ReadOnlySpan<byte> head)
    {
        var best = _formats[0];
        var bestScore = -1;
        foreach (var format in _formats)
        {
            var score = format.Probe(head);
            if (score > bestScore)
            {
                (best, bestScore) = (format, score);
            }
        }

        return best;
    }
}
