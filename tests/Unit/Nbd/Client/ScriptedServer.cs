using System.Net.Sockets;
using Platter.Nbd.Client;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>A server that does what a test tells it, one client after the other or all at once; a connection is closed when its script ends.</summary>
internal sealed class ScriptedServer : IAsyncDisposable
{
    private readonly TempFolder _folder = new("nbd");
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _loop;

    public ScriptedServer(Func<ScriptedPeer, Task> script, string exportName = "", string? socketPath = null, bool parallel = false)
    {
        Address = NbdAddress.ForSocket(socketPath ?? _folder["s"], exportName);
        _listener.Bind(new UnixDomainSocketEndPoint(Socket));
        _listener.Listen(8);
        _loop = Task.Run(() => ServeAsync(script, parallel));
    }

    public NbdAddress Address { get; }

    public string Socket => Address.SocketPath!;

    public ValueTask<NbdStorage> OpenAsync() => NbdStorage.OpenAsync(Address, TestContext.Current.CancellationToken);

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Dispose();
        await _loop;
        _stop.Dispose();
        _folder.Dispose();
    }

    private async Task ServeAsync(Func<ScriptedPeer, Task> script, bool parallel)
    {
        var clients = new List<Task>();
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                var socket = await _listener.AcceptAsync(_stop.Token);
                var client = PlayAsync(script, socket);
                clients.Add(client);
                await (parallel ? Task.CompletedTask : client);
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException or ObjectDisposedException)
            {
                // The test is over.
            }
        }

        await Task.WhenAll(clients);
    }

    private async Task PlayAsync(Func<ScriptedPeer, Task> script, Socket socket)
    {
        try
        {
            using (socket)
            {
                await script(new ScriptedPeer(socket, _stop.Token));
            }
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException or EndOfStreamException or ObjectDisposedException)
        {
            // The client hung up, or the test is over.
        }
    }
}
