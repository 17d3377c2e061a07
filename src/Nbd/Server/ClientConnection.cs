using System.Buffers;
using System.Buffers.Binary;
using System.Diagnostics;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Nbd.Protocol;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Server;

/// <summary>One client from its connection to its end, on a thread of its own.</summary>
/// <remarks>The socket stays in blocking mode: no asynchronous operation of .NET may ever be used on it.</remarks>
internal sealed class ClientConnection
{
    private const int SocketBufferBytes = 1 << 20;

    // How long somebody who was turned away may take to hear why.
    private static readonly TimeSpan s_farewell = TimeSpan.FromSeconds(1);

    // Data of refused options that are skipped to stay in step; who sends more is cut off.
    private const int MaxSkippedBytes = 1 << 20;

    private readonly Socket _socket;

    // Replaced once, by this connection's thread, when encryption begins.
    private volatile NbdWire _wire;
    private readonly NbdServer _server;
    private readonly NbdExport? _begun;
    private readonly NbdServerOptions _options;
    private readonly Lock _gate = new();
    private readonly long _started = Stopwatch.GetTimestamp();
    private Transmission? _transmission;
    private bool _stopping;
    private bool _wasTurnedAway;

    /// <summary>Takes over a socket.</summary>
    /// <param name="socket">Connected.</param>
    /// <param name="server">Whose client it is.</param>
    /// <param name="number">For messages.</param>
    /// <param name="begun">The export, when the client was told of it in another way and begins with requests at once; null to shake hands.</param>
    public ClientConnection(Socket socket, NbdServer server, int number, NbdExport? begun = null)
    {
        _begun = begun;
        _socket = socket;
        _wire = new SocketWire(socket);
        _server = server;
        _options = server.Options;
        Number = number;
    }

    /// <summary>Counts the connections of this server, for messages.</summary>
    public int Number { get; }

    /// <summary>Starts the thread.</summary>
    public void Start() => new Thread(Run, 512 << 10) { IsBackground = true, Name = $"NBD client {Number}" }.Start();

    /// <summary>Makes it end: at once while it shakes hands, otherwise after the requests that were received.</summary>
    public void Stop()
    {
        lock (_gate)
        {
            _stopping = true;
            if (_transmission is not null)
            {
                _transmission.Stop();
                return;
            }
        }

        _wire.Cut();
    }

    /// <summary>Ends it now, whatever it is doing.</summary>
    public void Cut()
    {
        lock (_gate)
        {
            _transmission?.Abandon();
        }

        _wire.Cut();
    }

    private void Run()
    {
        try
        {
            Prepare();
            if (Haggle() is { } agreed)
            {
                Transmit(agreed);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or BlockException)
        {
            if (!_stopping)
            {
                _server.Report($"client {Number}: {Reason(e)}");
            }
        }
        catch (Exception e)
        {
            // A bug of ours with one client must not take the others' server away.
            _server.Report($"client {Number}: {e.GetType().Name}: {e.Message}");
        }
        finally
        {
            if (_wasTurnedAway && _wire is SocketWire plain)
            {
                plain.Linger(s_farewell);
            }

            _wire.Dispose();
            _server.Remove(this);
        }
    }

    // The host's words for a limit that was reached are "Connection timed out", and only sending has one here.
    private string Reason(Exception e) => e is not SocketException { SocketErrorCode: SocketError.TimedOut or SocketError.WouldBlock } ? e.Message
        : _transmission is null ? "the handshake took too long"
        : $"it took no reply for {_options.SendTimeout.TotalSeconds} s";

    private void Prepare()
    {
        if (_socket.AddressFamily is not (AddressFamily.InterNetwork or AddressFamily.InterNetworkV6 or AddressFamily.Unix))
        {
            // What .NET does not know it cannot set up, nor need it be.
            return;
        }

        _socket.SendBufferSize = SocketBufferBytes;
        _socket.ReceiveBufferSize = SocketBufferBytes;
        if (_socket.ProtocolType == ProtocolType.Tcp)
        {
            _socket.NoDelay = true;
            _socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        }
    }

    private ServerHandshake? Haggle()
    {
        var handshake = new ServerHandshake(_server.Exports, _options);
        if (_begun is not null)
        {
            handshake.Begin(_begun);
            return handshake;
        }

        var reply = new ArrayBufferWriter<byte>(256);
        ServerHandshake.Greet(reply);
        SendReply(reply);
        var bytes = new byte[NbdOptionHeader.Size];
        Fill(bytes.AsSpan(0, NbdGreeting.ClientFlagsSize));
        if (handshake.AcceptClientFlags(BinaryPrimitives.ReadUInt32BigEndian(bytes)) == HandshakeStep.Close)
        {
            throw new BlockException(BlockErrorKind.Protocol, "unknown client flags");
        }

        try
        {
            return Haggle(handshake, bytes, reply);
        }
        catch (Exception e) when (e is SocketException or BlockException && handshake.MissesTls)
        {
            // However it left: this is why.
            throw WithoutTls();
        }
    }

    private ServerHandshake? Haggle(ServerHandshake handshake, byte[] bytes, ArrayBufferWriter<byte> reply)
    {
        var data = Array.Empty<byte>();
        while (true)
        {
            Fill(bytes);
            if (!NbdOptionHeader.TryParse(bytes, out var header))
            {
                throw new BlockException(BlockErrorKind.Protocol, "an option does not start with the magic number of options");
            }

            HandshakeStep step;
            if (header.Length > _options.MaxOptionBytes)
            {
                Skip(header.Length);
                step = handshake.RefuseTooLong(header, reply);
            }
            else
            {
                if (data.Length < header.Length)
                {
                    data = new byte[header.Length];
                }

                var filled = data.AsSpan(0, (int)header.Length);
                Fill(filled);
                step = handshake.Accept(header, filled, reply);
            }

            try
            {
                SendReply(reply);
            }
            catch (SocketException) when (header.Option == NbdOption.Abort)
            {
                // It has said that it goes, and did not wait for our goodbye.
            }

            switch (step)
            {
                case HandshakeStep.Transmission:
                    return handshake;
                case HandshakeStep.StartTls:
                    // Nothing was read ahead: what a client sent behind its STARTTLS in plain text is no TLS, and ends the connection.
                    _wasTurnedAway = true;
                    _wire = _options.Tls!.Accept((SocketWire)_wire, TimeLeft());
                    _wasTurnedAway = false;
                    handshake.BeginEncrypted();
                    break;
                case HandshakeStep.Close:
                    return handshake.MissesTls ? throw WithoutTls() : null;
                default:
                    break;
            }
        }
    }

    private static BlockException WithoutTls() => new(BlockErrorKind.Protocol, "the client does not encrypt, which this server demands");

    private void Transmit(ServerHandshake agreed)
    {
        _wire.LimitReceiving(Timeout.InfiniteTimeSpan);
        _wire.LimitSending(_options.SendTimeout);
        using var transmission = new Transmission(
            _wire, agreed, _server, message => _server.Report($"client {Number}: {message}"));
        lock (_gate)
        {
            if (_stopping)
            {
                return;
            }

            _transmission = transmission;
        }

        _server.ClientBegan();
        try
        {
            transmission.Run();
        }
        finally
        {
            _server.ClientEnded();
        }
    }

    private void Skip(uint length)
    {
        if (length > MaxSkippedBytes)
        {
            throw new BlockException(BlockErrorKind.Protocol, $"an option with {length} bytes of data");
        }

        var waste = new byte[4096];
        for (var rest = (int)length; rest > 0;)
        {
            var part = Math.Min(rest, waste.Length);
            Fill(waste.AsSpan(0, part));
            rest -= part;
        }
    }

    /// <summary>Receives all of it within what is left of the time for the handshake.</summary>
    private void Fill(Span<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            _wire.LimitReceiving(TimeLeft());
            var count = _wire.Receive(bytes);
            if (count == 0)
            {
                throw new BlockException(BlockErrorKind.Protocol, "the client closed during the handshake");
            }

            bytes = bytes[count..];
        }
    }

    private void SendReply(ArrayBufferWriter<byte> reply)
    {
        if (reply.WrittenCount > 0)
        {
            _wire.LimitSending(TimeLeft());
            _wire.Send(reply.WrittenSpan);
        }

        reply.ResetWrittenCount();
    }

    private TimeSpan TimeLeft()
    {
        var left = _options.HandshakeTimeout - Stopwatch.GetElapsedTime(_started);
        return left > TimeSpan.Zero ? left : throw new BlockException(BlockErrorKind.Protocol, "the handshake took too long");
    }
}
