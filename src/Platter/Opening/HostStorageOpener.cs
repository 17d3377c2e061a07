using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Host.Files;
using Platter.Nbd.Client;

namespace Platter;

/// <summary>Opens the kinds of storage that Platter knows: local files and devices, NBD exports.</summary>
internal sealed class HostStorageOpener : StorageOpener
{
    public override bool IsStorageDriver(string driver) => driver is "file" or "host_device" or "nbd";

    public override bool IsDirectory(NodeOptions options) =>
        options.Driver is null or "file" && options["filename"] is { } path && Directory.Exists(path);

    public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) =>
        new(FileDirectory.Open(path));

    public override async ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default)
    {
        switch (options.Driver)
        {
            case null or "file" or "host_device":
                return OpenFile(options, mode);
            case "nbd":
                if (mode.Writable)
                {
                    throw new BlockException(BlockErrorKind.ReadOnly, "an NBD export can only be read");
                }

                return await NbdStorage.OpenAsync(options, cancellationToken).ConfigureAwait(false);
            case var driver:
                throw new BlockException(BlockErrorKind.Unsupported, $"Unknown protocol '{SafeText.Clean(driver, 64)}'");
        }
    }

    private static FileStorage OpenFile(NodeOptions options, StorageOpenMode mode)
    {
        foreach (var key in options.Keys)
        {
            // Accepted and without effect on us: how the peers are told to do what we do anyway.
            if (key is not ("driver" or "filename" or "locking" or "aio" or "cache.direct" or "cache.no-flush" or "read-only" or "auto-read-only"
                or "node-name" or "discard" or "detect-zeroes"))
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"driver 'file' has no option '{SafeText.Clean(key, 64)}'");
            }
        }

        var path = options["filename"]
            ?? throw new BlockException(BlockErrorKind.InvalidRequest, "driver 'file' needs the option 'filename'");
        return mode.NamedByImage ? FileStorage.OpenReferenced(path, mode.Writable) : FileStorage.Open(path, mode.Writable);
    }
}
