using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Host.Codecs;

namespace Platter.TestKit;

/// <summary>Opens images whose files are somewhere in memory, by name, with their backing chains and data files.</summary>
/// <param name="find">A file for reading or (true) writing, or null if there is none.</param>
/// <param name="findDirectory">A directory by its path, or null if there is none.</param>
public sealed class NamedStorages(Func<string, bool, Storage?> find, Func<string, StorageDirectory?>? findDirectory = null) : StorageOpener
{
    /// <summary>Raw files that are put below images that cannot name them: by the image's name.</summary>
    public IReadOnlyDictionary<string, string> GivenBackings { get; init; } = new Dictionary<string, string>();

    /// <summary>What openings share.</summary>
    /// <param name="metadataOnly">For checking and listing.</param>
    /// <param name="forRepair">For repairing.</param>
    public OpenContext Context(bool metadataOnly = false, bool forRepair = false) => new()
    {
        Formats = KnownFormats.Registry,
        Storages = this,
        Gate = new AnyName(),
        Codecs = HostCodecs.Instance,
        MetadataOnly = metadataOnly || forRepair,
        ForRepair = forRepair,
    };

    /// <summary>Opens an image as a disk.</summary>
    public ValueTask<BlockNode> OpenAsync(string name, bool writable = false, string? snapshot = null, bool metadataOnly = false, bool forRepair = false) =>
        new ImageOpener(Context(metadataOnly, forRepair)).OpenAsync(new OpenRequest
        {
            Options = OptionsOf(name),
            Writable = writable,
            Snapshot = snapshot is null ? null : SnapshotSelector.Parse(snapshot),
        });

    /// <inheritdoc/>
    public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default) =>
        new(find(options["filename"] ?? string.Empty, mode.Writable)
            ?? throw new BlockException(BlockErrorKind.NotFound, $"{options["filename"]}: no such file"));

    /// <inheritdoc/>
    public override bool IsDirectory(NodeOptions options) => options["filename"] is { } path && findDirectory?.Invoke(path) is not null;

    /// <inheritdoc/>
    public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) =>
        new(findDirectory?.Invoke(path) ?? throw new BlockException(BlockErrorKind.NotFound, $"{path}: no such directory"));

    /// <inheritdoc/>
    public override bool IsStorageDriver(string driver) => driver == "file";

    private NodeOptions OptionsOf(string name)
    {
        if (!GivenBackings.TryGetValue(name, out var below))
        {
            return NodeOptions.ForFile(name);
        }

        var options = new NodeOptions { ["driver"] = "parallels" };
        options.SetChild("file", NodeOptions.ForFile(name));
        var backing = new NodeOptions { ["driver"] = "raw" };
        backing.SetChild("file", NodeOptions.ForFile(below));
        options.SetChild("backing", backing);
        return options;
    }

    private sealed class AnyName : OpenGate
    {
        public override NodeOptions Resolve(ImageReference reference) => NodeOptions.ForFile(reference.Name);
    }
}
