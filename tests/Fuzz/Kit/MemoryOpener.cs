using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;

namespace Platter.Tests.Fuzz;

/// <summary>Opens the files of an input by name, directories by prefix, and remembers which.</summary>
internal sealed class MemoryOpener(FuzzInput input) : StorageOpener
{
    private readonly List<StrictStorage> _storages = [];

    /// <summary>Every file there is.</summary>
    public IReadOnlyCollection<string> Names => input.Files.Keys;

    /// <summary>Names in the order they were opened.</summary>
    public List<string> Opened { get; } = [];

    /// <summary>Whether everything that was opened is closed again.</summary>
    public bool AllClosed => _storages.TrueForAll(s => s.IsClosed);

    public Storage Open(string name)
    {
        if (!input.Files.TryGetValue(name, out var bytes))
        {
            throw new BlockException(BlockErrorKind.NotFound, $"{SafeText.Clean(name, 256)}: no such file");
        }

        Opened.Add(name);
        ulong index = 1;
        foreach (var other in input.Files.Keys)
        {
            if (other == name)
            {
                break;
            }

            index++;
        }

        var storage = new StrictStorage(name, bytes, new StorageIdentity(1, index));
        _storages.Add(storage);
        return storage;
    }

    public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default) =>
        new(Open(options["filename"] ?? throw new BlockException(BlockErrorKind.InvalidRequest, "no file name")));

    public override bool IsDirectory(NodeOptions options) => options["filename"] is { } name && HasDirectory(name);

    public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) =>
        HasDirectory(path)
            ? new(new StrictDirectory(path, this))
            : throw new BlockException(BlockErrorKind.NotFound, $"{SafeText.Clean(path, 256)}: no such directory");

    public override bool IsStorageDriver(string driver) => driver is "file" or "host_device" or "nbd";

    private bool HasDirectory(string path) => input.Files.Keys.Any(f => f.StartsWith(path + "/", StringComparison.Ordinal));
}
