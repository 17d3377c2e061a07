using Platter.Cli.Commands;
using Platter.Cli.Options;

namespace Platter.Cli;

/// <summary>Which tool the program is, by the name it was started under.</summary>
/// <param name="VersionText">What <c>--version</c> prints.</param>
/// <param name="SingleCommand">The one command that tool consists of, or null when the command is its first word.</param>
internal sealed record Persona(string VersionText, Func<Command>? SingleCommand)
{
    /// <summary>The version of this program.</summary>
    public const string Version = "0.1.0";

    // Scripts compare the number; this is the release whose options and output we follow.
    private const string PeerVersion = "7.2.22";

    /// <summary>The tool of that name; any name we do not know is our own.</summary>
    /// <exception cref="UsageException">A peer's tool that this version does not do the job of.</exception>
    public static Persona For(string programName) => programName switch
    {
        "qemu-img" => new($"qemu-img version {PeerVersion} (Platter {Version})\n", null),
        "qemu-nbd" => new($"qemu-nbd {PeerVersion} (Platter {Version})\n", static () => new PeerServeCommand()),
        "qemu-io" => new($"qemu-io version {PeerVersion} (Platter {Version})\n", static () => new IoCommand("qemu-io")),
        "qemu-storage-daemon" => throw new UsageException(
            $"this version of Platter does not do {programName}'s job yet; it does those of qemu-img, qemu-io and, for reading, qemu-nbd"),
        _ => new($"platter {Version}\n", null),
    };
}
