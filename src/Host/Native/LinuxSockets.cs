using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Platter.Host.Native;

/// <summary>System calls on sockets for which .NET has no API. Errors are in <see cref="Marshal.GetLastPInvokeError"/>.</summary>
internal static partial class LinuxSockets
{
    public const int AF_UNIX = 1, AF_NETLINK = 16, AF_VSOCK = 40;

    public const int SOCK_STREAM = 1, SOCK_RAW = 3, SOCK_CLOEXEC = 0x80000;

    /// <summary>Makes two stream sockets that are connected with each other.</summary>
    /// <returns>False on an error.</returns>
    public static unsafe bool TryMakePair(out SafeSocketHandle one, out SafeSocketHandle other)
    {
        var pair = stackalloc int[2];
        var made = SocketPair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0;
        one = new SafeSocketHandle(made ? pair[0] : -1, ownsHandle: made);
        other = new SafeSocketHandle(made ? pair[1] : -1, ownsHandle: made);
        return made;
    }

    /// <summary>Opens a socket of any family.</summary>
    public static SafeFileHandle Open(int family, int type, int protocol)
    {
        var descriptor = OpenSocket(family, type | SOCK_CLOEXEC, protocol);
        return new SafeFileHandle(descriptor, ownsHandle: descriptor >= 0);
    }

    /// <summary>Opens a stream socket of any family.</summary>
    public static SafeSocketHandle OpenStream(int family)
    {
        var descriptor = OpenSocket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return new SafeSocketHandle(descriptor, ownsHandle: descriptor >= 0);
    }

    public static unsafe int BindVsock(SafeHandle socket, uint contextId, uint port)
    {
        var address = new VsockAddress { Family = AF_VSOCK, ContextId = contextId, Port = port };
        return Bind(socket, &address, sizeof(VsockAddress));
    }

    public static unsafe int ConnectVsock(SafeHandle socket, uint contextId, uint port)
    {
        var address = new VsockAddress { Family = AF_VSOCK, ContextId = contextId, Port = port };
        return Connect(socket, &address, sizeof(VsockAddress));
    }

    /// <summary>Takes a client that waits.</summary>
    public static SafeSocketHandle Accept(SafeHandle socket)
    {
        var descriptor = Accept(socket, 0, 0, SOCK_CLOEXEC);
        return new SafeSocketHandle(descriptor, ownsHandle: descriptor >= 0);
    }

    public static unsafe nint Send(SafeHandle socket, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* start = bytes)
        {
            return Send(socket, start, (nuint)bytes.Length, 0);
        }
    }

    public static unsafe nint Receive(SafeHandle socket, Span<byte> into)
    {
        fixed (byte* start = into)
        {
            return Receive(socket, start, (nuint)into.Length, 0);
        }
    }

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    public static partial int IoControl(SafeHandle device, nuint request, nint argument);

    [LibraryImport("libc", EntryPoint = "listen", SetLastError = true)]
    public static partial int Listen(SafeHandle socket, int backlog);

    [LibraryImport("libc", EntryPoint = "bind", SetLastError = true)]
    private static unsafe partial int Bind(SafeHandle socket, VsockAddress* address, int length);

    [LibraryImport("libc", EntryPoint = "connect", SetLastError = true)]
    private static unsafe partial int Connect(SafeHandle socket, VsockAddress* address, int length);

    [LibraryImport("libc", EntryPoint = "accept4", SetLastError = true)]
    private static partial int Accept(SafeHandle socket, nint address, nint length, int flags);

    [LibraryImport("libc", EntryPoint = "socketpair", SetLastError = true)]
    private static unsafe partial int SocketPair(int family, int type, int protocol, int* pair);

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    private static partial int OpenSocket(int family, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "send", SetLastError = true)]
    private static unsafe partial nint Send(SafeHandle socket, byte* bytes, nuint length, int flags);

    [LibraryImport("libc", EntryPoint = "recv", SetLastError = true)]
    private static unsafe partial nint Receive(SafeHandle socket, byte* into, nuint length, int flags);

    /// <summary><c>struct sockaddr_vm</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct VsockAddress
    {
        public ushort Family;
        public ushort Reserved;
        public uint Port;
        public uint ContextId;
        public uint FlagsAndZero;
    }
}
