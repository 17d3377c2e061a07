using System.Net.Sockets;
using System.Runtime.InteropServices;
using Platter.Core.Errors;
using Platter.Core.Sockets;
using Platter.Host.Native;

namespace Platter.Host.Sockets;

/// <summary>Sockets between a virtual machine and its host (vsock(7), Linux).</summary>
public static class Vsock
{
    /// <summary>The context id that means this machine, whatever its number is.</summary>
    public const uint Any = uint.MaxValue;

    /// <summary>Listens on a port, for every peer.</summary>
    /// <param name="port">Not checked: 32 bits.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: this host has no vsock; <see cref="BlockErrorKind.Locked"/>: the port is in use; others as met.</exception>
    public static ListeningSocket Listen(uint port)
    {
        var name = $"vsock port {port}";
        var socket = Open(name);
        if (LinuxSockets.BindVsock(socket, Any, port) != 0 || LinuxSockets.Listen(socket, 128) != 0)
        {
            var error = Marshal.GetLastPInvokeError();
            socket.Dispose();
            throw error == LinuxCalls.EADDRINUSE
                ? new BlockException(BlockErrorKind.Locked, $"{name}: cannot listen: the port is in use")
                : HostErrors.FromErrno(error, name, "cannot listen");
        }

        return new Listener(name, socket);
    }

    /// <summary>Connects to a port of a machine.</summary>
    /// <param name="contextId">Of the machine: 2 is the host, 1 this machine itself.</param>
    /// <param name="port">Its port.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: this host has no vsock; others: nobody listens there.</exception>
    public static Socket Connect(uint contextId, uint port)
    {
        var name = $"vsock {contextId}:{port}";
        var socket = Open(name);
        if (LinuxSockets.ConnectVsock(socket, contextId, port) != 0)
        {
            var error = Marshal.GetLastPInvokeError();
            socket.Dispose();
            throw HostErrors.FromErrno(error, name, "cannot connect");
        }

        return new Socket(socket);
    }

    private static SafeSocketHandle Open(string name)
    {
        var socket = OperatingSystem.IsLinux() ? LinuxSockets.OpenStream(LinuxSockets.AF_VSOCK) : new SafeSocketHandle(-1, ownsHandle: false);
        if (!socket.IsInvalid)
        {
            return socket;
        }

        socket.Dispose();
        throw new BlockException(BlockErrorKind.Unsupported, $"{name}: this host has no vsock");
    }

    private sealed class Listener(string name, SafeSocketHandle socket) : ListeningSocket
    {
        public override string Name => name;

        public override Socket? Accept(TimeSpan timeout)
        {
            if (!SocketWait.ForReading(socket, (int)timeout.TotalMilliseconds))
            {
                return null;
            }

            var client = LinuxSockets.Accept(socket);
            if (client.IsInvalid)
            {
                var error = Marshal.GetLastPInvokeError();
                client.Dispose();
                return error is LinuxCalls.EAGAIN or LinuxCalls.EINTR ? null : throw HostErrors.FromErrno(error, name, "cannot accept");
            }

            return new Socket(client);
        }

        public override void Dispose() => socket.Dispose();
    }
}
