using System.Net.Sockets;

namespace Platter.Tests.Fuzz;

/// <summary>Somebody in the middle of one connection, who changes, repeats, drops or adds bytes once, or cuts it; and who cuts it when nothing moves any more after that.</summary>
internal sealed class MeddlingProxy : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(150);

    private readonly Socket _listening = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly string _server;
    private readonly CancellationTokenSource _stop = new();
    private readonly List<Task> _talks = [];

    // What is done, where, and to whom; of the first connection only.
    private readonly int _deed;
    private readonly bool _byClient;
    private readonly long _at;
    private readonly int _size;
    private readonly byte _value;

    private volatile bool _done;
    private long _lastMove = Environment.TickCount64;

    /// <summary>Listens.</summary>
    /// <param name="path">Where clients come to.</param>
    /// <param name="server">Where they go.</param>
    /// <param name="dice">Decides what is done.</param>
    public MeddlingProxy(string path, string server, Random dice)
    {
        _server = server;
        _deed = dice.Next(8) == 0 ? -1 : dice.Next(5);
        _byClient = dice.Next(2) == 0;
        _at = dice.Next(3) switch { 0 => dice.Next(64), 1 => dice.Next(2500), _ => dice.Next(200_000) };
        _size = dice.Next(4) == 0 ? dice.Next(1, 3000) : dice.Next(1, 6);
        _value = (byte)(1 << dice.Next(8));
        _listening.Bind(new UnixDomainSocketEndPoint(path));
        _listening.Listen();
        _talks.Add(AcceptAsync());
    }

    public void Dispose()
    {
        _stop.Cancel();
        _listening.Dispose();
        Task.WhenAll(_talks).Wait(TimeSpan.FromSeconds(20));
        _stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        for (var first = true; ; first = false)
        {
            Socket client;
            try
            {
                client = await _listening.AcceptAsync(_stop.Token);
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException or ObjectDisposedException)
            {
                return;
            }

            var meddles = first;
            lock (_talks)
            {
                _talks.Add(TalkAsync(client, meddles));
            }
        }
    }

    private async Task TalkAsync(Socket client, bool meddles)
    {
        using var both = client;
        using var server = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await server.ConnectAsync(new UnixDomainSocketEndPoint(_server), _stop.Token);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        var up = PumpAsync(client, server, meddles && _byClient, end);
        var down = PumpAsync(server, client, meddles && !_byClient, end);
        while (!up.IsCompleted || !down.IsCompleted)
        {
            await Task.WhenAny(Task.WhenAll(up, down), Task.Delay(20));
            if (meddles && _done && Environment.TickCount64 - Interlocked.Read(ref _lastMove) > s_patience.TotalMilliseconds)
            {
                await end.CancelAsync();
            }
        }
    }

    private async Task PumpAsync(Socket from, Socket to, bool meddles, CancellationTokenSource end)
    {
        var buffer = new byte[16384];
        long passed = 0;
        try
        {
            while (await from.ReceiveAsync(buffer, end.Token) is var count and > 0)
            {
                Interlocked.Exchange(ref _lastMove, Environment.TickCount64);
                byte[] bytes = buffer[..count];
                if (meddles && !_done && _deed >= 0 && passed + count > _at)
                {
                    _done = true;
                    if (Meddle(bytes, (int)(_at - passed)) is not { } changed)
                    {
                        await end.CancelAsync();
                        return;
                    }

                    bytes = changed;
                }

                passed += count;
                for (var sent = 0; sent < bytes.Length;)
                {
                    sent += await to.SendAsync(bytes.AsMemory(sent), end.Token);
                }
            }

            to.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException or ObjectDisposedException)
        {
            // One side is gone; the other learns it now.
            await end.CancelAsync();
        }
    }

    /// <returns>What goes on instead; null to cut the connection.</returns>
    private byte[]? Meddle(byte[] bytes, int at)
    {
        var size = Math.Min(_size, bytes.Length - at);
        switch (_deed)
        {
            case 0:
                for (var i = 0; i < size; i++)
                {
                    bytes[at + i] ^= _value;
                }

                return bytes;
            case 1:
                return [.. bytes[..at], .. bytes[(at + size)..]];
            case 2:
                return [.. bytes[..(at + size)], .. bytes[at..]];
            case 3:
                return [.. bytes[..at], .. Enumerable.Repeat(_value, _size), .. bytes[at..]];
            default:
                return null;
        }
    }
}
