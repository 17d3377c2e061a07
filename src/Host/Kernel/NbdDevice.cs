using System.Buffers;
using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Platter.Core.Errors;
using Platter.Host.Native;

namespace Platter.Host.Kernel;

/// <summary>A block device of Linux's NBD driver (<c>/dev/nbdN</c>), attached to connected sockets until it is detached.</summary>
/// <remarks>By netlink where the kernel knows it (from 4.12 on), which takes several connections and leaves no process waiting inside the kernel; by
/// ioctl otherwise, one connection. Needs root, or CAP_SYS_ADMIN. Thread-safe.</remarks>
public sealed class NbdDevice : IDisposable
{
    private const string Family = "nbd";
    private const byte ConnectCommand = 1, DisconnectCommand = 2;
    private const ushort IndexAttribute = 1, SizeAttribute = 2, BlockSizeAttribute = 3, ServerFlagsAttribute = 5, SocketsAttribute = 7;
    private const ushort SocketItem = 1, SocketDescriptor = 1;
    private const nuint SetSocket = 0xab00, SetBlockSize = 0xab01, DoIt = 0xab03, ClearSocket = 0xab04, ClearQueue = 0xab05, SetBlocks = 0xab07, Disconnect = 0xab08, SetFlags = 0xab0a;
    private const int EBUSY = 16;
    private const int BlockBytes = 512;

    private readonly string _path;
    private readonly SafeFileHandle? _device;
    private readonly Thread? _inKernel;
    private int _detached;

    private NbdDevice(string path, SafeFileHandle? device, Thread? inKernel)
    {
        _path = path;
        _device = device;
        _inKernel = inKernel;
    }

    /// <summary>Makes a pair of connected sockets: one end for <see cref="Attach"/>, the other for the server.</summary>
    /// <exception cref="BlockException">The host has none.</exception>
    public static (Socket Kernel, Socket Server) MakeConnection() => LinuxSockets.TryMakePair(out var one, out var other)
        ? (new Socket(one), new Socket(other))
        : throw HostErrors.FromErrno(Marshal.GetLastPInvokeError(), "socket", "cannot be made");

    /// <summary>Attaches a device.</summary>
    /// <param name="path"><c>/dev/nbdN</c>.</param>
    /// <param name="connections">Sockets in the transmission phase; the kernel keeps them, the caller may close them afterwards.</param>
    /// <param name="size">Bytes of the export, a multiple of 512.</param>
    /// <param name="flags">The export's transmission flags.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: there is no such device, or no such driver; <see cref="BlockErrorKind.Locked"/>: it is
    /// attached already; <see cref="BlockErrorKind.AccessDenied"/>; others as met.</exception>
    public static NbdDevice Attach(string path, IReadOnlyList<Socket> connections, long size, ushort flags)
    {
        var index = IndexOf(path);
        if (!File.Exists(path))
        {
            throw new BlockException(BlockErrorKind.NotFound, $"{path}: there is no such device: is the driver loaded (modprobe nbd)?");
        }

        using var link = GenericNetlink.Open(Family);
        if (link is null)
        {
            return AttachByIoctl(path, connections[0], size, flags);
        }

        var sockets = new ArrayBufferWriter<byte>();
        foreach (var connection in connections)
        {
            var item = new ArrayBufferWriter<byte>();
            GenericNetlink.Add(item, SocketDescriptor, (uint)connection.Handle);
            GenericNetlink.AddNested(sockets, SocketItem, item.WrittenSpan);
        }

        var attributes = new ArrayBufferWriter<byte>();
        GenericNetlink.Add(attributes, IndexAttribute, index);
        GenericNetlink.Add(attributes, SizeAttribute, (ulong)size);
        GenericNetlink.Add(attributes, BlockSizeAttribute, (ulong)BlockBytes);
        GenericNetlink.Add(attributes, ServerFlagsAttribute, (ulong)flags);
        GenericNetlink.AddNested(attributes, SocketsAttribute, sockets.WrittenSpan);
        var error = link.Send(ConnectCommand, attributes.WrittenSpan);
        return error switch
        {
            0 => new NbdDevice(path, null, null),
            EBUSY => throw Busy(path),
            _ => throw HostErrors.FromErrno(error, path, "cannot be attached"),
        };
    }

    /// <summary>Detaches a device that any process attached. What was written is flushed first, by the kernel.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: no such device or driver; <see cref="BlockErrorKind.AccessDenied"/>; others as met.</exception>
    public static void Detach(string path)
    {
        var index = IndexOf(path);
        using var link = GenericNetlink.Open(Family);
        if (link is not null)
        {
            var attributes = new ArrayBufferWriter<byte>();
            GenericNetlink.Add(attributes, IndexAttribute, index);
            var error = link.Send(DisconnectCommand, attributes.WrittenSpan);
            if (error == 0)
            {
                return;
            }

            // EINVAL: attached by ioctl, or not at all; the other way can tell.
            if (error != LinuxCalls.EINVAL)
            {
                throw HostErrors.FromErrno(error, path, "cannot be detached");
            }
        }

        using var device = Open(path);
        Control(device, path, Disconnect, 0, "cannot be detached");
        Control(device, path, ClearSocket, 0, "cannot be detached");
    }

    /// <summary>Detaches it, unless somebody has done so. The kernel flushes what was written first: the server must still answer.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _detached, 1) != 0)
        {
            return;
        }

        try
        {
            Detach(_path);
        }
        catch (BlockException)
        {
            // It was detached already, or the driver is gone with it.
        }

        _inKernel?.Join(TimeSpan.FromSeconds(5));
        _device?.Dispose();
    }

    private static NbdDevice AttachByIoctl(string path, Socket connection, long size, ushort flags)
    {
        var device = Open(path);
        try
        {
            Control(device, path, SetBlockSize, BlockBytes, "cannot be attached");
            Control(device, path, SetBlocks, (nint)(size / BlockBytes), "cannot be attached");
            Control(device, path, SetFlags, flags, "cannot be attached");
            if (LinuxSockets.IoControl(device, SetSocket, connection.Handle) < 0)
            {
                throw Marshal.GetLastPInvokeError() == EBUSY ? Busy(path) : HostErrors.FromErrno(Marshal.GetLastPInvokeError(), path, "cannot be attached");
            }

            // This call ends when the device is detached.
            var thread = new Thread(() => Work(device)) { IsBackground = true, Name = "NBD device" };
            thread.Start();
            return new NbdDevice(path, device, thread);
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }

    private static void Work(SafeFileHandle device)
    {
        LinuxSockets.IoControl(device, DoIt, 0);
        LinuxSockets.IoControl(device, ClearQueue, 0);
        LinuxSockets.IoControl(device, ClearSocket, 0);
    }

    private static SafeFileHandle Open(string path)
    {
        var descriptor = LinuxCalls.Open(path, LinuxCalls.O_RDWR | LinuxCalls.O_CLOEXEC, 0);
        return descriptor >= 0 ? new SafeFileHandle(descriptor, ownsHandle: true)
            : throw HostErrors.FromErrno(Marshal.GetLastPInvokeError(), path, "cannot be opened");
    }

    private static void Control(SafeFileHandle device, string path, nuint request, nint argument, string attempted)
    {
        if (LinuxSockets.IoControl(device, request, argument) < 0)
        {
            throw HostErrors.FromErrno(Marshal.GetLastPInvokeError(), path, attempted);
        }
    }

    private static uint IndexOf(string path)
    {
        const string Prefix = "nbd";
        var name = Path.GetFileName(path);
        return name.StartsWith(Prefix, StringComparison.Ordinal) && uint.TryParse(name.AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var index)
            ? index
            : throw new BlockException(BlockErrorKind.InvalidRequest, $"{SafeText.Clean(path, 256)}: is not an NBD device: expected /dev/nbd and a number");
    }

    private static BlockException Busy(string path) => new(BlockErrorKind.Locked, $"{path}: is attached already; detach it first");
}
