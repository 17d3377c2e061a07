using System.Net.Sockets;
using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Core.Tls;
using Platter.Core.Units;
using Platter.Formats.Raw;
using Platter.Host.Tls;
using Platter.Nbd.Client;
using Platter.Nbd.Server;
using Platter.Nbd.Tls;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Client and server of ours over TLS, with somebody in between: records, handshakes and what goes before them, changed in one place.</summary>
/// <remarks>What is read is what the disk has, always; what was flushed is on it; and nothing comes out but refusals, on either side.</remarks>
internal sealed class NbdTlsTarget : FuzzTarget
{
    private const int DiskBytes = 256 << 10;

    private static readonly Lazy<TempFolder> s_folder = new(() =>
    {
        var folder = new TempFolder("fuzz-tls");
        NbdTestCredentials.Make(folder["pki"], ["localhost"], ["fuzz"], TimeSpan.FromDays(2));
        return folder;
    });

    public override string Name => "nbd-tls";

    public override int BoundedCases => 60;

    public override FuzzInput Make(Random random) => FromFinding(BitConverter.GetBytes(random.Next()));

    /// <summary>The input is the seed of the dice.</summary>
    public override FuzzInput FromFinding(byte[] bytes) => new("seed", SparseBytes.From(bytes));

    public override async ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken)
    {
        var dice = new Random((int)input.MainBytes.U32Le(0));
        var certificates = dice.Next(2) == 0;

        // Either side by .NET or by the host's library.
        TlsLibrary? Library() => dice.Next(3) == 0 ? null : OpenSslLibrary.Instance;
        var pki = s_folder.Value["pki"];
        var keys = Path.Combine(pki, "keys.psk");
        var path = Path.Combine(Path.GetTempPath(), $"platter-fuzz-tls-{Guid.NewGuid():N}");
        var content = new byte[DiskBytes];
        dice.NextBytes(content);
        List<string> log = [];
        var storage = new MemoryStorage("disk", [.. content]);
        await using var node = new ImageNode(new RawImage(storage, HostOffset.Zero, DiskBytes), null);
        await using var server = new Platter.Nbd.Server.NbdServer(new Dictionary<string, NbdExport> { [string.Empty] = new(node) { IsWritable = true } }, new()
        {
            Log = line =>
            {
                lock (log)
                {
                    log.Add(line);
                }
            },
            Tls = certificates ? NbdServerCertificates.Load(pki, new() { VerifyPeer = dice.Next(2) == 0, IsRequired = true, Library = Library() })
                : NbdServerKeys.Load(OpenSslLibrary.Instance, keys, isRequired: true),
        });
        server.Start(new UnixDomainSocketEndPoint(path + ".s"));
        using (var proxy = new MeddlingProxy(path, path + ".s", dice))
        {
            var options = new NbdClientOptions
            {
                Writable = true,
                Connections = 1,
                Tls = certificates ? NbdClientCertificates.Load(pki, new() { Library = Library() }) : NbdClientKey.Load(OpenSslLibrary.Instance, keys, "fuzz"),
                TlsHostName = "localhost",
            };
            await Oracle.AllowsAsync(null, async () =>
            {
                await using var client = await NbdStorage.OpenAsync(NbdAddress.ForSocket(path), options, cancellationToken);
                await UseAsync(client, storage, content, dice, cancellationToken);
            });
        }

        await server.StopAsync(TimeSpan.FromSeconds(20));
        File.Delete(path);
        lock (log)
        {
            if (log.FirstOrDefault(line => line.Contains("Exception", StringComparison.Ordinal)) is { } bug)
            {
                throw new FuzzException($"the server says: {bug}");
            }
        }
    }

    private static async ValueTask UseAsync(NbdStorage client, MemoryStorage storage, byte[] content, Random dice, CancellationToken cancellationToken)
    {
        var buffer = new byte[60_000];
        for (var i = 0; i < 6; i++)
        {
            var length = dice.Next(1, buffer.Length);
            var at = dice.Next(DiskBytes - length);
            if (dice.Next(2) == 0)
            {
                await client.ReadAsync(new(at), buffer.AsMemory(0, length), cancellationToken);
                if (!buffer.AsSpan(0, length).SequenceEqual(content.AsSpan(at, length)))
                {
                    throw new FuzzException($"{length} bytes at {at} were read wrongly");
                }

                continue;
            }

            dice.NextBytes(content.AsSpan(at, length));
            await client.WriteAsync(new(at), content.AsMemory(at, length), cancellationToken);
            await client.FlushAsync(cancellationToken);
            await storage.ReadAsync(new(at), buffer.AsMemory(0, length), cancellationToken);
            if (!buffer.AsSpan(0, length).SequenceEqual(content.AsSpan(at, length)))
            {
                throw new FuzzException($"{length} bytes at {at} were flushed and are not on the disk");
            }
        }
    }
}
