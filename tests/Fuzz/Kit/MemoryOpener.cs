using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;

namespace Platter.Tests.Fuzz;

/// <summary>Opens the files of an input by name and remembers which.</summary>
internal sealed class MemoryOpener(FuzzInput input) : StorageOpener
{
    private readonly List<StrictStorage> _storages = [];

    /// <summary>Names in the order they were opened.</summary>
    public List<string> Opened { get; } = [];

    /// <summary>Whether everything that was opened is closed again.</summary>
    public bool AllClosed => _storages.TrueForAll(s => s.IsClosed);

    public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default)
    {
        var name = options["filename"] ?? throw new BlockException(BlockErrorKind.InvalidRequest, "no file name");
        if (!input.Files.TryGetValue(name, out var bytes))
        {
            throw new BlockException(BlockErrorKind.NotFound, $"{name}: no such file");
        }

        Opened.Add(name);
        var index = 1 + input.Files.Keys.Order(StringComparer.Ordinal).ToList().IndexOf(name);
        var storage = new StrictStorage(name, bytes, new StorageIdentity(1, (ulong)index));
        _storages.Add(storage);
        return new(storage);
    }

    public override bool IsDirectory(NodeOptions options) => false;

    public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.NotFound, $"{path}: no such directory");

    public override bool IsStorageDriver(string driver) => driver is "file" or "host_device" or "nbd";
}
