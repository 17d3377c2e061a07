using System.Net;
using System.Net.Sockets;
using Platter.Core.Graph;
using Platter.Nbd.Server;
using Platter.TestKit;
using NbdServer = Platter.Nbd.Server.NbdServer;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>A server for one test, on a unix socket.</summary>
internal sealed class ServerFixture : IAsyncDisposable
{
    private readonly TempFolder _folder = new("nbd");
    private readonly List<string> _log = [];

    public ServerFixture(BlockNode node, NbdServerOptions? options = null, string name = "")
        : this(new NbdExport(node), options, name)
    {
    }

    public ServerFixture(NbdExport export, NbdServerOptions? options = null, string name = "")
    {
        EndPoint = new UnixDomainSocketEndPoint(_folder["s"]);
        Server = new NbdServer(
            new Dictionary<string, NbdExport> { [name] = export },
            (options ?? new NbdServerOptions()) with { Log = Add });
        Server.Start(EndPoint);
    }

    public NbdServer Server { get; }

    public EndPoint EndPoint { get; }

    public string SocketPath => _folder["s"];

    public IReadOnlyList<string> Log
    {
        get
        {
            lock (_log)
            {
                return [.. _log];
            }
        }
    }

    public RawClient Connect() => new(EndPoint);

    public RawClient Open(bool structured = true, bool contexts = false) => RawClient.Open(EndPoint, structured, contexts);

    public async ValueTask DisposeAsync()
    {
        await Server.StopAsync(TimeSpan.FromSeconds(5));
        _folder.Dispose();
    }

    private void Add(string line)
    {
        lock (_log)
        {
            _log.Add(line);
        }
    }
}
