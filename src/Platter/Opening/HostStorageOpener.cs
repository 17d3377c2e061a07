using Platter.Core.Errors;
using Platter.Core.Faults;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Host.Files;
using Platter.Host.Sockets;
using Platter.Nbd.Client;
using Platter.Nbd.Tls;

namespace Platter;

/// <summary>Opens the kinds of storage that Platter knows: local files and devices, NBD exports, and these behind a filter that injects faults.</summary>
/// <param name="credentials">TLS credentials of exports by id (<c>tls-creds</c>), as the caller knows them; null for none.</param>
/// <param name="bypassCache">Whether files leave nothing in the host's cache.</param>
internal sealed class HostStorageOpener(Func<string, NbdClientTls>? credentials = null, bool bypassCache = false) : StorageOpener
{
    private const string CredentialsOption = "tls-creds", HostNameOption = "tls-hostname";

    private const int MaxConfigurationChars = 1 << 20;

    public override bool IsStorageDriver(string driver) => driver is "file" or "host_device" or "nbd" or FaultOptions.Driver;

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
                return await OpenExportAsync(options, mode, cancellationToken).ConfigureAwait(false);
            case FaultOptions.Driver:
                return await OpenFaultsAsync(options, mode, cancellationToken).ConfigureAwait(false);
            case var driver:
                throw new BlockException(BlockErrorKind.Unsupported, $"Unknown protocol '{SafeText.Clean(driver, 64)}'");
        }
    }

    private ValueTask<NbdStorage> OpenExportAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken)
    {
        var id = options[CredentialsOption];
        var hostName = options[HostNameOption];
        var rest = Without(options, CredentialsOption, HostNameOption);
        var address = NbdAddress.FromOptions(rest);
        if (mode.NamedByImage
            && (id is not null || hostName is not null || (address.Tls is { } tls && (tls.CertificateDirectory is not null || tls.PskFile is not null || !tls.VerifyPeer))))
        {
            throw new BlockException(
                BlockErrorKind.NotAllowed, $"{address}: an image cannot choose whose credentials are shown to a server, nor that they are not asked for");
        }

        var how = NbdClientOptions.FromOptions(rest) with { Writable = mode.Writable, TlsLibrary = KnownFormats.TlsLibrary, ConnectVsock = Vsock.Connect };
        if (id is not null)
        {
            how = how with
            {
                Tls = credentials?.Invoke(id) ?? throw new BlockException(BlockErrorKind.NotFound, $"{address}: there are no TLS credentials with the id '{SafeText.Clean(id, 64)}'"),
                TlsHostName = hostName,
            };
        }
        else if (hostName is not null)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{address}: {HostNameOption} belongs to {CredentialsOption}");
        }

        return NbdStorage.OpenAsync(address, how, cancellationToken);
    }

    private static NodeOptions Without(NodeOptions options, params ReadOnlySpan<string> keys)
    {
        var rest = new NodeOptions();
        foreach (var key in options.Keys)
        {
            if (!keys.Contains(key))
            {
                rest[key] = options[key];
            }
        }

        return rest;
    }

    // QEMU's "image" is options or the name of a node. We have no names of nodes there, so it may also be a file's.
    private async ValueTask<Storage> OpenFaultsAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken)
    {
        var image = options["image"] is { } name ? DiskName.Parse(name) : options.Child("image");
        if (image.Keys.Count == 0)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "A block device must be specified for \"image\"");
        }

        if (image.Driver is { } driver && !IsStorageDriver(driver))
        {
            throw new BlockException(
                BlockErrorKind.Unsupported, $"'blkdebug' below a format works on a file or an export, not on '{SafeText.Clean(driver, 64)}'");
        }

        var settings = Faults(options);
        return new FaultStorage(await OpenAsync(image, mode, cancellationToken).ConfigureAwait(false), settings, options["config"]);
    }

    // Nobody above such a filter says what its requests are for.
    public override Storage OpenFilter(NodeOptions options, Storage disk) =>
        options.Driver == FaultOptions.Driver ? new FaultStorage(disk, Faults(options), options["config"], isTop: true) : base.OpenFilter(options, disk);

    private static FaultOptions Faults(NodeOptions options) =>
        FaultOptions.Parse(options, options["config"] is { Length: > 0 } path ? ReadConfiguration(path) : null);

    private static string ReadConfiguration(string path)
    {
        try
        {
            using var file = File.OpenText(path);
            var text = new char[MaxConfigurationChars];
            return new string(text, 0, file.ReadBlock(text));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            var why = e is FileNotFoundException or DirectoryNotFoundException ? "No such file or directory" : e.Message;
            throw new BlockException(BlockErrorKind.NotFound, $"Could not read blkdebug config file: {why}", e);
        }
    }

    private FileStorage OpenFile(NodeOptions options, StorageOpenMode mode)
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
        var file = mode.NamedByImage ? FileStorage.OpenReferenced(path, mode.Writable) : FileStorage.Open(path, mode.Writable);
        file.BypassesCache = bypassCache || options["cache.direct"] is "on";
        return file;
    }
}
