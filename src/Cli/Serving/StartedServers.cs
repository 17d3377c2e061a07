using Platter.Cli.Options;
using Platter.Host.Sockets;

namespace Platter.Cli.Serving;

/// <summary>Servers that a command line has us start; they end when this is disposed.</summary>
internal sealed class StartedServers(Session session) : IDisposable
{
    private readonly List<ActivatedServer> _servers = [];

    /// <summary>Cancelled by a signal, once a server was started: it must not be left behind.</summary>
    public CancellationToken Stop { get; private set; }

    /// <summary>The name of a place; a server is started for it, once more each time.</summary>
    /// <exception cref="Core.Errors.BlockException">It could not be started.</exception>
    public string NameOf(NbdPlace place)
    {
        if (place.Name is { } name)
        {
            return name;
        }

        Stop = session.WatchInterrupts();
        var server = ActivatedServer.Start(place.Command);
        _servers.Add(server);
        return $"nbd+unix:///?socket={Uri.EscapeDataString(server.SocketPath)}";
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var server in _servers)
        {
            server.Dispose();
        }
    }
}
