using System.Globalization;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Nbd.Tls;

namespace Platter.Cli.Commands;

/// <summary><c>nbd certs</c>: everything that TLS needs, in one directory.</summary>
internal sealed class NbdCertsCommand : Command
{
    private const int DefaultDays = 825;
    private const int MaxDays = 36_500;

    private static readonly Option s_host = new('\0', "host", "NAME", "Name or address that clients reach the server by, besides localhost. Can be given several times.");
    private static readonly Option s_psk = new('\0', "psk", "USER", "Who gets a pre-shared key in keys.psk; 'qemu' by default. Can be given several times.");
    private static readonly Option s_days = new('\0', "days", "DAYS", $"How long the certificates are good, {DefaultDays} by default.");

    public override string Name => "nbd certs";

    public override string Summary => "Make certificates and pre-shared keys for NBD over TLS: for tests and closed networks.";

    public override string Operands => "DIRECTORY";

    public override IReadOnlyList<Option> Options { get; } = [CommonOptions.Help, s_host, s_psk, s_days, CommonOptions.Quiet];

    public override string Details => "Makes ca-cert.pem and ca-key.pem (an authority), server-cert.pem and server-key.pem, client-cert.pem and client-key.pem, and keys.psk, as QEMU, "
        + "libnbd and nbdkit look for them. Nothing is overwritten. The directory suits server and client on one host; a client on another one gets ca-cert.pem with its own "
        + "certificate and key, or its line of keys.psk. Keep ca-key.pem to yourself: whoever has it can be any server and any client.";

    public override ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (arguments.Operands.Count != 1)
        {
            throw new UsageException("Expecting one directory", pointToHelp: true);
        }

        var directory = arguments.Operands[0];
        var days = DefaultDays;
        if (arguments.Get(s_days) is { } text && (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out days) || days is 0 or > MaxDays))
        {
            throw new UsageException($"Invalid number of days '{SafeText.Clean(text, 64)}': expected 1 to {MaxDays}");
        }

        string[] users = [.. arguments.GetAll(s_psk)];
        string[] hosts = [.. arguments.GetAll(s_host)];
        var files = NbdTestCredentials.Make(directory, hosts, users.Length > 0 ? users : [NbdClientKey.DefaultUser], TimeSpan.FromDays(days));
        if (!arguments.Has(CommonOptions.Quiet))
        {
            Tell(session.Out, Path.GetDirectoryName(files[0])!, hosts.Length > 0 ? hosts[0] : "localhost", users.Length > 0 ? users[0] : NbdClientKey.DefaultUser);
        }

        return new(0);
    }

    private static void Tell(TextWriter output, string directory, string host, string user)
    {
        directory = SafeText.Clean(directory);
        output.Write($"{directory}: authority, server, client (\"{NbdTestCredentials.ClientName}\"), pre-shared keys\n\n");
        output.Write("With certificates on both sides:\n");
        output.Write($"  platter serve --tls-certificates={directory} --tls-verify-peer --bind={host} IMAGE\n");
        output.Write($"  nbdinfo 'nbds://{host}/?tls-certificates={directory}'\n\n");
        output.Write("With a pre-shared key:\n");
        output.Write($"  platter serve --tls-psk={directory}/keys.psk --bind={host} IMAGE\n");
        output.Write($"  nbdinfo 'nbds://{user}@{host}/?tls-psk-file={directory}/keys.psk'\n");
    }
}
