using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Options;

/// <summary>What the command line says about opening images; opens them so.</summary>
internal sealed class ImageArguments
{
    private readonly bool _nameIsOptions;
    private readonly DiskOpenOptions _options;

    private ImageArguments(bool nameIsOptions, DiskOpenOptions options)
    {
        _nameIsOptions = nameIsOptions;
        _options = options;
    }

    /// <summary>Reads the common options.</summary>
    /// <param name="arguments">The command line.</param>
    /// <param name="session">Environment, and where warnings go.</param>
    /// <param name="snapshotOption">How this command spells the snapshot; <c>-l</c> of <see cref="CommonOptions"/> unless given.</param>
    /// <exception cref="UsageException">They contradict each other.</exception>
    public static ImageArguments From(Arguments arguments, Session session, Option? snapshotOption = null)
    {
        var nameIsOptions = arguments.Has(CommonOptions.ImageOpts);
        var format = arguments.Get(CommonOptions.Format);
        if (nameIsOptions && format is not null)
        {
            throw new UsageException("--image-opts and --format are mutually exclusive");
        }

        return new(nameIsOptions, new DiskOpenOptions
        {
            Format = format,
            ForceShare = arguments.Has(CommonOptions.ForceShare),
            BypassHostCache = CommonOptions.BypassesHostCache(arguments.Get(CommonOptions.SourceCache) ?? arguments.Get(CommonOptions.Cache)),
            Untrusted = arguments.Has(CommonOptions.Untrusted),
            Secrets = ObjectSecrets.Parse(arguments.GetAll(CommonOptions.Object)),
            NbdCredentials = id => TlsArguments.Client(arguments, id),
            Password = PasswordOf(arguments, session),
            BundleDisk = arguments.Get(CommonOptions.Disk),
            Snapshot = arguments.Get(snapshotOption ?? CommonOptions.Snapshot) is { } snapshot ? SnapshotSelector.Parse(snapshot) : null,
            Warn = session.Warn,
        });
    }

    /// <summary>Opens an image.</summary>
    /// <param name="name">As typed.</param>
    /// <param name="change">What this command wants otherwise than the command line says; null for nothing.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException">It cannot be opened; the message names it.</exception>
    public ValueTask<Disk> OpenAsync(
        string name, Func<DiskOpenOptions, DiskOpenOptions>? change = null, CancellationToken cancellationToken = default) =>
        OpenAsync(name, null, change, cancellationToken);

    /// <summary>Opens an image by its name, whatever <c>--image-opts</c> says about others.</summary>
    /// <exception cref="BlockException">It cannot be opened; the message names it.</exception>
    public ValueTask<Disk> OpenNameAsync(
        string name, Func<DiskOpenOptions, DiskOpenOptions>? change = null, CancellationToken cancellationToken = default) =>
        OpenAsync(name, DiskName.Parse(name), change, cancellationToken);

    /// <summary>Opens what options say.</summary>
    /// <param name="name">What messages call it.</param>
    /// <param name="source">Where it is; null for what the name says.</param>
    /// <param name="change">What this command wants otherwise than the command line says; null for nothing.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException">It cannot be opened; the message names it.</exception>
    public async ValueTask<Disk> OpenAsync(
        string name, NodeOptions? source, Func<DiskOpenOptions, DiskOpenOptions>? change, CancellationToken cancellationToken = default)
    {
        var options = change is null ? _options : change(_options);
        try
        {
            source ??= Parse(name);
            return await Disk.OpenAsync(source, options, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            throw new BlockException(e.Kind, $"Could not open '{name}': {WithoutName(e.Message, name)}", e);
        }
    }

    /// <summary>What an operand of the command line says: a name, or options with <c>--image-opts</c>.</summary>
    /// <exception cref="BlockException">It is neither.</exception>
    public NodeOptions Parse(string name) => _nameIsOptions ? NodeOptions.ParseKeyValues(name) : DiskName.Parse(name);

    // The layers below name the file themselves and may say the same words; once is enough.
    private static string WithoutName(string message, string name)
    {
        const string Words = "Could not open: ";
        var rest = message.StartsWith(name, StringComparison.Ordinal) && message.AsSpan(name.Length).StartsWith(": ")
            ? message[(name.Length + 2)..]
            : message;
        return rest.StartsWith(Words, StringComparison.Ordinal) ? rest[Words.Length..] : rest;
    }

    /// <summary>The password that a file or the environment holds, or null.</summary>
    public static string? PasswordOf(Arguments arguments, Session session)
    {
        if (arguments.Get(CommonOptions.PasswordFile) is not { } file)
        {
            return session.Variable("PLATTER_PASSWORD");
        }

        var text = System.Text.Encoding.UTF8.GetString(ObjectSecrets.ReadFile(file));
        return text.EndsWith("\r\n", StringComparison.Ordinal) ? text[..^2] : text.EndsWith('\n') ? text[..^1] : text;
    }
}
