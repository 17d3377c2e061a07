using Platter.Nbd.Protocol;
using Platter.Nbd.Tls;

namespace Platter.Nbd.Server;

/// <summary>What a server allows its clients, and whom it tells. The defaults suit clients that nobody trusts.</summary>
public sealed record NbdServerOptions
{
    /// <summary>Connections at one time; further ones wait until one ends.</summary>
    public int MaxConnections { get; init; } = 100;

    /// <summary>Time that a client has from its connection to the first request, all options together.</summary>
    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Options that one client may send.</summary>
    public int MaxOptions { get; init; } = 64;

    /// <summary>Data of one option, in bytes; longer options are refused unread.</summary>
    public int MaxOptionBytes { get; init; } = 64 << 10;

    /// <summary>Longest read and longest write, in bytes; also what the export advertises as its maximum block size.</summary>
    public int MaxRequestBytes { get; init; } = NbdProtocol.MaxPayloadBytes;

    /// <summary>Bytes of requests and replies that are under way for one client; beyond that no more of its requests are read.
    /// At least one request is always served.</summary>
    public long MaxInFlightBytes { get; init; } = 32 << 20;

    /// <summary>Bytes of requests and replies of all clients together, besides 1 MiB that each has for itself; beyond that, requests are read only when
    /// others have been answered. A single request that is larger is served when nothing else is.</summary>
    public long MaxTotalInFlightBytes { get; init; } = 256 << 20;

    /// <summary>Requests of one client that may wait for a device at one time.</summary>
    public int MaxInFlightRequests { get; init; } = 64;

    /// <summary>How long a client may take no data while there is some for it; then it is cut off.</summary>
    public TimeSpan SendTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long the data of a write may fail to come; then the client is cut off. It has as long in all, and a second for every 64 KiB. Between
    /// requests a client may be silent for ever.</summary>
    public TimeSpan ReceiveTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Threads, shared by all clients, for requests that must wait for a device or be decoded. Where all of them work for others, a client gets one more.</summary>
    public int Workers { get; init; } = 32;

    /// <summary>Permissions of a unix socket that is made, in force before anybody can connect; null for what the process's mask leaves.</summary>
    public UnixFileMode? SocketMode { get; init; }

    /// <summary>How to encrypt; null for not at all.</summary>
    public NbdServerTls? Tls { get; init; }

    /// <summary>Told in one line, free of control characters, about clients that broke the protocol or were lost. Called from any thread.</summary>
    public Action<string>? Log { get; init; }

    /// <summary>Told how many clients are reading an export, whenever that changes. Called from any thread.</summary>
    public Action<int>? ClientsChanged { get; init; }

    /// <summary>Whether long extents go from file to socket without passing through us; null lets the client's address decide. For tests.</summary>
    internal bool? SendFiles { get; init; }
}
