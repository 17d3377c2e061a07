using Platter.Core.Codecs;
using Platter.Core.Metadata;
using Platter.Core.Storages;

namespace Platter.Core.Images;

/// <summary>What an opening of one graph shares: the gate, caches, codecs, secrets, limits.</summary>
public sealed class OpenContext
{
    /// <summary>The formats that can be opened.</summary>
    public required FormatRegistry Formats { get; init; }

    /// <summary>Opens storages.</summary>
    public required StorageOpener Storages { get; init; }

    /// <summary>Decides what images may make us open.</summary>
    public required OpenGate Gate { get; init; }

    /// <summary>Decompressors.</summary>
    public CodecProvider Codecs { get; init; } = PortableCodecs.Instance;

    /// <summary>How hard compressed writes try: 1 (fast) to 9 (zlib) or 22 (zstd); null for the library's own choice.</summary>
    public int? CompressionLevel { get; init; }

    /// <summary>One bounded cache for the metadata of every image of the graph.</summary>
    public MetadataCache Cache { get; init; } = new(MetadataCache.DefaultBudgetBytes);

    /// <summary>Passwords and keys.</summary>
    public ISecretSource Secrets { get; init; } = NoSecrets.Instance;

    /// <summary>Which of the <see cref="Secrets"/> opens encrypted images whose options name none, or null.</summary>
    public string? DefaultSecretId { get; init; }

    /// <summary>Limits on what an image may cost.</summary>
    public OpenLimits Limits { get; init; } = OpenLimits.Default;

    /// <summary>Open the named file and nothing else: no backing file, no data file, no password needed. For <c>info</c>;
    /// a driver opened so answers <see cref="ImageDriver.GetInfoAsync"/> and <see cref="ImageDriver.CheckAsync"/> of its own file only.</summary>
    public bool MetadataOnly { get; init; }

    /// <summary>With <see cref="MetadataOnly"/>: follow the backing chain all the same, each image's metadata only. For <c>info --backing-chain</c>.</summary>
    public bool BackingChain { get; init; }

    /// <summary>With <see cref="MetadataOnly"/>: the image is opened to be repaired, so that what a repair makes anew need not be readable.</summary>
    public bool ForRepair { get; init; }

    /// <summary>Open the top image even if it says that it is an unfinished copy; only to go on with it.</summary>
    public bool AllowUnfinished { get; init; }

    /// <summary>What an image gives up keeps its space on the host (<c>discard=ignore</c>).</summary>
    public bool KeepsSpace { get; init; }

    /// <summary>Ignore image locks (<c>-U</c>).</summary>
    public bool ForceShare { get; init; }

    /// <summary>Receives one-line warnings ("bitmaps are ignored: …"); they may hold image-supplied text.</summary>
    public Action<string> Warn { get; init; } = static _ => { };

    /// <summary>Opens the storage that a reference leads to, through the gate. For files that hold no image of their own (a data file).</summary>
    /// <exception cref="Errors.BlockException">The gate refuses, or opening fails.</exception>
    public ValueTask<Storage> OpenReferenceAsync(ImageReference reference, CancellationToken cancellationToken = default, bool writable = false) =>
        Storages.OpenAsync(Gate.Resolve(reference), new StorageOpenMode(ForceShare, NamedByImage: true, writable), cancellationToken);
}
