using System.Globalization;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Host.Files;

namespace Platter;

/// <summary>A new image whose options are known to be ones and whose backing file is there, and of which nothing has been made yet.</summary>
/// <remarks>For programs that tell the user what they are about to make; others call <see cref="Disk.CreateAsync"/>.</remarks>
public sealed class DiskCreation
{
    private const string PasswordSecretId = "platter-password";

    private readonly DiskCreateOptions _options;
    private readonly ImageFormat? _format;
    private readonly BundleFormat? _bundle;
    private readonly IReadOnlyList<StorageIdentity> _chain;

    private DiskCreation(string path, long size, DiskCreateOptions options, NodeOptions named, IReadOnlyList<StorageIdentity> chain)
    {
        Path = path;
        Size = size;
        _options = options;
        _format = KnownFormats.Registry.Formats.FirstOrDefault(known => known.Name == options.Format);
        _bundle = KnownFormats.Registry.FindBundle(options.Format);
        NamedOptions = named;
        _chain = chain;
    }

    /// <summary>Where the image will be: a path, or an NBD URI.</summary>
    public string Path { get; }

    /// <summary>The format's name.</summary>
    public string Format => _options.Format;

    /// <summary>Size of the disk in bytes as it was asked for, or that of the backing file. The image rounds up to whole sectors.</summary>
    public long Size { get; }

    /// <summary>The options that were given, sizes and numbers in digits; with <c>size</c>.</summary>
    public NodeOptions NamedOptions { get; }

    /// <summary>Every option that the format has, in the order in which they are told to the user.</summary>
    public IReadOnlyList<CreateOption> KnownOptions => KnownFormats.Registry.CreateOptionsOf(Format).Options;

    /// <summary>Judges names and kinds of options, and opens the backing file to see that it is there and how large it is.</summary>
    /// <param name="path">A local file, a block device, or the name of an NBD export that is large enough: what it holds is replaced, and it keeps its size.</param>
    /// <param name="size">Bytes of the disk; null for what the option <c>size</c> says, or the backing file's.</param>
    /// <param name="options">How.</param>
    /// <param name="cancellationToken">Gives up on opening the backing file.</param>
    /// <exception cref="BlockException">An option is unknown or no number, the format cannot be made, the backing file cannot be opened, there is no size.</exception>
    public static async ValueTask<DiskCreation> PrepareAsync(
        string path, long? size, DiskCreateOptions options, CancellationToken cancellationToken = default)
    {
        try
        {
            if (!KnownFormats.Registry.Knows(options.Format))
            {
                throw Invalid($"Unknown file format '{SafeText.Clean(options.Format, 64)}'");
            }

            var file = ExportConversion.ExportOf(path) is null ? LocalPathOf(path) : path;
            if (file == path && ExportConversion.ExportOf(path) is not null && KnownFormats.Registry.FindBundle(options.Format) is not null)
            {
                throw new BlockException(BlockErrorKind.Unsupported, $"format '{options.Format}' is a directory of files, which an NBD export cannot hold");
            }

            var known = KnownFormats.Registry.CreateOptionsOf(options.Format);
            if (known.Options.Count == 0)
            {
                throw new BlockException(BlockErrorKind.Unsupported, $"Format driver '{options.Format}' does not support image creation");
            }

            var named = options.ToNamed();
            RefuseBackingWithoutSupport(options.Format, named);
            named = known.Normalize(named);
            var asked = named["size"] is { } text ? long.Parse(text, CultureInfo.InvariantCulture) : (long?)null;
            if (size is not null && asked is not null)
            {
                throw Invalid("The image size must be specified only once");
            }

            size ??= asked;
            var chain = new List<StorageIdentity>();
            if (named["backing_file"] is { } backing)
            {
                var backingSize = await ExamineBackingAsync(file, backing, named["backing_fmt"], options.BackingUnchecked, chain, cancellationToken).ConfigureAwait(false);
                size ??= backingSize;
            }

            named["size"] = (size ?? throw Invalid("Image creation needs a size parameter")).ToString(CultureInfo.InvariantCulture);
            return new DiskCreation(file, size.Value, options, named, chain);
        }
        catch (BlockException e)
        {
            throw About(path, e);
        }
    }

    /// <summary>Makes the image, or the bundle in a directory that is empty or not there. Nothing that is there is touched before all checks are through and the file is locked; a file that was made here
    /// is removed again when something fails.</summary>
    /// <exception cref="BlockException">Options do not go together, a secret is missing, the file is in use, or the host could not write.</exception>
    public ValueTask RunAsync(CancellationToken cancellationToken = default) => RunAsync(Path, cancellationToken);

    /// <summary>Judges what <see cref="RunAsync(CancellationToken)"/> would judge before it touches anything.</summary>
    /// <exception cref="BlockException">Options do not go together, or a secret is missing.</exception>
    internal void Check()
    {
        try
        {
            _bundle?.CheckCreate(Size, NamedOptions);
            _format?.CheckCreate(Size, WithPassword(), ContextFor(new NewFiles()));
        }
        catch (BlockException e)
        {
            throw About(Path, e);
        }
    }

    /// <summary>As <see cref="RunAsync(CancellationToken)"/>, in a file that gets its name later.</summary>
    internal async ValueTask RunAsync(string path, CancellationToken cancellationToken)
    {
        try
        {
            var files = new NewFiles();
            var context = ContextFor(files);
            if (_bundle is not null)
            {
                await MakeBundleAsync(_bundle, context, cancellationToken).ConfigureAwait(false);
                return;
            }

            var named = WithPassword();
            _format!.CheckCreate(Size, named, context);
            var storage = ExportConversion.ExportOf(path) is { } export ? await ExportConversion.OpenAsync(export, cancellationToken).ConfigureAwait(false) : files.Open(path);
            var finished = false;
            try
            {
                if (storage.Identity is { } identity && _chain.Contains(identity))
                {
                    throw Invalid("Error: Trying to create an image with the same filename as the backing file");
                }

                await _format.CreateAsync(storage, Size, named, context, cancellationToken).ConfigureAwait(false);
                finished = true;
            }
            finally
            {
                await storage.DisposeAsync().ConfigureAwait(false);
                if (!finished)
                {
                    files.RemoveNew();
                }
            }
        }
        catch (BlockException e)
        {
            throw About(Path, e);
        }
    }

    private CreateContext ContextFor(NewFiles files) => new()
    {
        Secrets = _options.Password is { } password ? new OnePassword(password, _options.Secrets) : _options.Secrets,
        OpenDataFileAsync = (name, _) => new(files.Open(LocalPathOf(name))),
        Progress = _options.Progress,
        Unfinished = _options.Unfinished,
        Label = _options.Label,
    };

    private async ValueTask MakeBundleAsync(BundleFormat bundle, CreateContext context, CancellationToken cancellationToken)
    {
        if (Path.TrimEnd('/').EndsWith(".pvm", StringComparison.OrdinalIgnoreCase))
        {
            throw Invalid("a .pvm is a machine, not a disk; name one of its disks: MACHINE.pvm/NAME.hdd");
        }

        bundle.CheckCreate(Size, NamedOptions);
        var directory = FileDirectory.Create(Path, out var isNew);
        try
        {
            await bundle.CreateAsync(directory, Size, NamedOptions, context, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            if (isNew)
            {
                FileDirectory.TryRemove(Path);
            }

            throw;
        }
    }

    // What is refused here is refused before the backing file is opened, in the words that name the format.
    private static void RefuseBackingWithoutSupport(string format, NodeOptions named)
    {
        var supported = KnownFormats.Registry.Formats.Any(known => known.Name == format && known.SupportsBackingFile);
        if (!supported && (named.Has("backing_file") || named.Has("backing_fmt")))
        {
            throw Invalid(named.Has("backing_file")
                ? $"Backing file not supported for file format '{format}'"
                : $"Backing file format not supported for file format '{format}'");
        }
    }

    private static async ValueTask<long?> ExamineBackingAsync(
        string path, string backing, string? backingFormat, bool unchecked_, List<StorageIdentity> chain, CancellationToken cancellationToken)
    {
        if (backing.Length == 0)
        {
            throw Invalid("Expected backing file name, got empty string");
        }

        if (backing == path)
        {
            throw Invalid("Error: Trying to create an image with the same filename as the backing file");
        }

        if (unchecked_)
        {
            return backingFormat is not null ? null : throw Invalid("Backing file specified without backing format");
        }

        // The name is recorded and followed from the new image's directory, so that is from where it is tried.
        var directory = ExportConversion.ExportOf(path) is null && System.IO.Path.GetDirectoryName(path) is { Length: > 0 } parent ? parent : ".";
        var context = new OpenContext
        {
            Formats = KnownFormats.Registry,
            Storages = new HostStorageOpener(),
            Gate = new LocalFilesGate(),
            Codecs = KnownFormats.Codecs,
            MetadataOnly = true,
            BackingChain = true,
            ForceShare = true,
        };
        BlockNode node;
        try
        {
            if (backingFormat is not null && !KnownFormats.Registry.Knows(backingFormat))
            {
                throw new BlockException(BlockErrorKind.WrongFormat, $"Unknown driver '{SafeText.Clean(backingFormat, 64)}'");
            }

            var source = context.Gate.Resolve(new ImageReference(ReferenceKind.Backing, backing, backingFormat, path, directory));
            node = await new ImageOpener(context).OpenAsync(
                new OpenRequest { Options = source, Format = backingFormat }, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            const string Words = ": Could not open: ";
            var at = e.Message.IndexOf(Words, StringComparison.Ordinal);
            var why = at < 0 ? e.Message : $"Could not open '{e.Message[..at]}': {e.Message[(at + Words.Length)..]}";
            throw new BlockException(e.Kind, $"{why} (could not open backing image)", e);
        }

        await using var closing = node.ConfigureAwait(false);
        foreach (var storage in node.Storages)
        {
            if (storage.Identity is { } identity)
            {
                chain.Add(identity);
            }
        }

        return backingFormat is not null
            ? node.VirtualSize
            : throw Invalid($"Backing file specified without backing format (detected format of {node.FormatName})");
    }

    private NodeOptions WithPassword()
    {
        var result = new NodeOptions();
        foreach (var key in NamedOptions.Keys)
        {
            result[key] = NamedOptions[key];
        }

        var encrypts = result.Has("encrypt.format") || result.GetSwitch("encryption", otherwise: false);
        if (_options.Password is not null && encrypts && !result.Has("encrypt.key-secret"))
        {
            result["encrypt.key-secret"] = PasswordSecretId;
        }

        return result;
    }

    private static string LocalPathOf(string name) => DiskName.Parse(name) switch
    {
        { Driver: "file" } file => file["filename"]!,
        var other => throw new BlockException(
            BlockErrorKind.Unsupported, $"Protocol driver '{SafeText.Clean(other.Driver ?? "?", 64)}' does not support image creation"),
    };

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);

    // Errors of an export name it already.
    private static BlockException About(string path, BlockException e) => ExportConversion.ExportOf(path) is not null || e.Message.StartsWith($"{path}: ", StringComparison.Ordinal) || e.Message.StartsWith($"{path.TrimEnd('/')}/", StringComparison.Ordinal)
        ? e
        : new BlockException(e.Kind, $"{path}: {e.Message}", e);

    /// <summary>Files that are opened to be replaced, and which of them were not there before.</summary>
    private sealed class NewFiles
    {
        private readonly List<string> _new = [];
        private readonly HashSet<string> _opened = [];

        public Storage Open(string path)
        {
            if (!_opened.Add(System.IO.Path.GetFullPath(path)))
            {
                throw Invalid($"Could not create '{path}': the image itself has that name");
            }

            var existed = File.Exists(path);
            var storage = OpenOrCreate(path);
            if (!existed && !storage.IsDevice)
            {
                _new.Add(path);
            }

            return storage;
        }

        // As the peers say it: what is the matter comes behind the name of the file, which may be the data file's.
        private static FileStorage OpenOrCreate(string path)
        {
            var prefix = $"{path}: Could not create file: ";
            try
            {
                return FileStorage.OpenForReplacing(path);
            }
            catch (BlockException e) when (e.Message.StartsWith(prefix, StringComparison.Ordinal))
            {
                throw new BlockException(e.Kind, $"Could not create '{path}': {e.Message[prefix.Length..]}", e);
            }
        }

        public void RemoveNew()
        {
            foreach (var path in _new)
            {
                try
                {
                    File.Delete(path);
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    // The error that brought us here is the one to report; what is left begins with zeros.
                }
            }
        }
    }

    private sealed class OnePassword(string password, ISecretSource others) : ISecretSource
    {
        private readonly byte[] _bytes = Encoding.UTF8.GetBytes(password);

        public ReadOnlyMemory<byte> Get(string id) => id == PasswordSecretId ? _bytes : others.Get(id);
    }
}
