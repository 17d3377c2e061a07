namespace Platter.Cli.Options;

/// <summary>Options that several commands share: declared, and explained, once.</summary>
internal static class CommonOptions
{
    public static readonly Option Help = new('h', "help", null, "Print this and exit.");

    // Only the peers' single-command tools take it after the command; elsewhere it stands before.
    public static readonly Option Version = new('V', "version", null, "Print the version and exit.");

    public static readonly Option Format = new(
        'f', "format", "FMT", "The image's format: qcow2, parallels, parallels-bundle, raw. Without it the format is recognised by the first bytes.");

    public static readonly Option Output = new('\0', "output", "human|json", "Print text (the default) or JSON.");

    public static readonly Option ImageOpts = new(
        '\0', "image-opts", null, "IMAGE is a list of options such as driver=qcow2,file.filename=disk.qcow2 instead of a name.");

    public static readonly Option ForceShare = new(
        'U', "force-share", null, "Ignore locks: open the image although another process may be writing to it.");

    public static readonly Option Object = new(
        '\0', "object", "secret,id=ID,...",
        "A password or key for options that ask for one by id: data=TEXT or file=FILE, format=raw or base64. Or TLS credentials for tls-creds=ID of NBD exports: "
        + "tls-creds-x509,id=ID,dir=DIRECTORY or tls-creds-psk,id=ID,dir=DIRECTORY,username=NAME. Can be given several times.");

    public static readonly Option PasswordFile = new(
        '\0', "password-file", "FILE",
        "Read the password of an encrypted image from FILE, without the line break at its end. The variable PLATTER_PASSWORD does the same.");

    public static readonly Option Untrusted = new(
        '\0', "untrusted", null, "Somebody else made the image: open no file that it names, and refuse what costs too much memory or time.");

    public static readonly Option Disk = new('\0', "disk", "NAME", "Which disk of a machine (VM.pvm) that has several; 'info' lists them.");

    public static readonly Option Quiet = new('q', "quiet", null, "Print nothing but errors.");

    public static readonly Option Progress = new('p', "progress", null, "Show how far it is.");

    public static readonly Option Snapshot = new(
        'l', "snapshot", "SNAPSHOT", "Read this snapshot: its id or name (a bundle's: GUID or name), or snapshot.id=ID,snapshot.name=NAME.");

    /// <summary>The same for commands that mean something else by -l.</summary>
    public static readonly Option LoadSnapshot = new('\0', "load-snapshot", "SNAPSHOT", "Take IMAGE as it was at this snapshot, which can only be read.");

    public static readonly Option SourceCache = new(
        'T', "source-cache", "MODE", "none and directsync leave nothing of IMAGE in the host's cache; writeback, writethrough and unsafe are accepted for the peers' sake.");

    public static readonly Option Cache = new(
        't', "cache", "MODE", "none and directsync leave nothing of IMAGE in the host's cache; writeback, writethrough and unsafe are accepted for the peers' sake.");

    private static readonly string[] s_cacheModes = ["none", "off", "directsync", "writeback", "unsafe", "writethrough"];

    /// <summary>Refuses cache modes that QEMU does not have.</summary>
    /// <param name="arguments">The command line.</param>
    /// <param name="option">Which option holds one.</param>
    /// <param name="message">What to say before the mode's name.</param>
    /// <exception cref="UsageException">There is no such mode.</exception>
    public static void ThrowIfNoCacheMode(Arguments arguments, Option option, string message = "Invalid cache option")
    {
        if (arguments.Get(option) is { } mode && !IsCacheMode(mode))
        {
            throw new UsageException($"{message}: {Core.Errors.SafeText.Clean(mode, 64)}");
        }
    }

    /// <summary>Whether QEMU has a cache mode of that name.</summary>
    public static bool IsCacheMode(string name) => Array.IndexOf(s_cacheModes, name) >= 0;

    /// <summary>Whether a cache mode of QEMU leaves the host's cache out.</summary>
    public static bool BypassesHostCache(string? mode) => mode is "none" or "off" or "directsync";
}
