using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Host.Kernel;
using Platter.Nbd.Server;

namespace Platter;

/// <summary>An export of an NBD server as a block device of this host (<c>/dev/nbdN</c>, Linux), which file systems can be mounted from.</summary>
/// <remarks>Needs root and the kernel's nbd driver. Thread-safe.</remarks>
/// <example><code>
/// await using var disk = await Disk.OpenAsync("vm.qcow2", new() { Writable = true });
/// await using var server = new NbdServer(new Dictionary&lt;string, NbdExport&gt; { [""] = new(disk.Node) { IsWritable = true } });
/// using var device = KernelDisk.Attach(server, "", "/dev/nbd0");
/// </code></example>
public sealed class KernelDisk : IDisposable
{
    /// <summary>Connections that are made unless a number is given.</summary>
    public const int DefaultConnections = 2;

    private readonly NbdDevice _device;

    private KernelDisk(NbdDevice device) => _device = device;

    /// <summary>Attaches a device.</summary>
    /// <param name="server">The server; it needs no address. Stop it after the device is detached.</param>
    /// <param name="exportName">Which of its exports.</param>
    /// <param name="device"><c>/dev/nbdN</c>.</param>
    /// <param name="connections">How many the kernel is given, at least 1.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: there is no such device, or no driver; <see cref="BlockErrorKind.Locked"/>: the device is
    /// attached already; <see cref="BlockErrorKind.AccessDenied"/>; <see cref="BlockErrorKind.Unsupported"/>: this host is not Linux.</exception>
    public static KernelDisk Attach(NbdServer server, string exportName, string device, int connections = DefaultConnections)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(connections, 1);
        if (!OperatingSystem.IsLinux())
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{device}: only Linux has block devices that NBD can be attached to");
        }

        var size = server.Exports[exportName].Node.VirtualSize;
        var kernelEnds = new List<Socket>();
        var serverEnds = new List<Socket>();
        try
        {
            for (var i = 0; i < connections; i++)
            {
                var (kernel, ours) = NbdDevice.MakeConnection();
                kernelEnds.Add(kernel);
                serverEnds.Add(ours);
            }

            // The kernel reads the partition table while it attaches: the server answers from the start.
            while (serverEnds.Count > 0)
            {
                server.Serve(serverEnds[^1], exportName);
                serverEnds.RemoveAt(serverEnds.Count - 1);
            }

            return new KernelDisk(NbdDevice.Attach(device, kernelEnds, size, (ushort)server.FlagsOf(exportName)));
        }
        finally
        {
            foreach (var socket in kernelEnds.Concat(serverEnds))
            {
                socket.Dispose();
            }
        }
    }

    /// <summary>Detaches a device that any process attached; what was written is flushed first.</summary>
    /// <exception cref="BlockException">As for <see cref="Attach"/>.</exception>
    public static void Detach(string device) => NbdDevice.Detach(device);

    /// <summary>Detaches it, if nobody has done so meanwhile. What was written is flushed first: the server must still be there.</summary>
    public void Dispose() => _device.Dispose();
}
