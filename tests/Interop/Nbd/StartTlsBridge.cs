using System.Net;
using System.Net.Sockets;

namespace Platter.Tests.Interop.Nbd;

/// <summary>A port for clients that know TLS and not NBD: says STARTTLS to a server and then hands every byte on.</summary>
internal sealed class StartTlsBridge : IDisposable
{
    private readonly Socket _server = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private Socket? _client;

    public StartTlsBridge(int serverPort)
    {
        _server.Connect(IPAddress.Loopback, serverPort);
        Receive(18);
        _server.Send(Convert.FromHexString("00000003" + "49484156454f50540000000500000000"));
        Receive(20);
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen();
        Port = ((IPEndPoint)_listener.LocalEndPoint!).Port;
        _ = Task.Run(async () =>
        {
            _client = await _listener.AcceptAsync();
            await Task.WhenAll(PumpAsync(_client, _server), PumpAsync(_server, _client));
        });
    }

    public int Port { get; }

    public void Dispose()
    {
        _listener.Dispose();
        _server.Dispose();
        _client?.Dispose();
    }

    private static async Task PumpAsync(Socket from, Socket to)
    {
        try
        {
            var bytes = new byte[65536];
            while (await from.ReceiveAsync(bytes) is var count and > 0)
            {
                await to.SendAsync(bytes.AsMemory(0, count));
            }

            to.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // One of them is gone, and the test looks at what was said before.
        }
    }

    private void Receive(int count)
    {
        for (var bytes = new byte[count]; count > 0;)
        {
            count -= _server.Receive(bytes, count, SocketFlags.None);
        }
    }
}
