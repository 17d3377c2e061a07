using System.Diagnostics;

namespace Platter.Bench.Measuring;

/// <summary>An NBD server on a unix socket, running until disposed.</summary>
internal sealed class NbdServer : IDisposable
{
    private readonly string _socket;
    private readonly NbdTls? _tls;

    /// <param name="label">How the table calls it.</param>
    /// <param name="scratch">Folder for its socket.</param>
    /// <param name="command">Makes its command line from the socket's path; it must stay in the foreground.</param>
    /// <param name="tls">What the command line says about TLS; null for nothing.</param>
    public NbdServer(string label, string scratch, Func<string, string[]> command, NbdTls? tls = null)
    {
        Label = label;
        _tls = tls;
        _socket = Path.Combine(scratch, label.Replace(' ', '-') + ".sock");
        File.Delete(_socket);
        var errors = Path.Combine(scratch, label + ".log");
        var line = command(_socket);
        Process = ChildProcess.Start(line, error: errors);
        var watch = Stopwatch.StartNew();
        while (!IsListening())
        {
            if (Process.HasExited)
            {
                Process.WaitForExit().OrThrow(line, errors);
            }

            if (Process.HasExited || watch.Elapsed.TotalSeconds > 20)
            {
                Dispose();
                throw new BenchException($"{string.Join(' ', line)}: does not listen");
            }

            Thread.Sleep(5);
        }
    }

    public string Label { get; }

    public ChildProcess Process { get; }

    /// <summary>What to give to a client.</summary>
    public string Uri => _tls?.Uri(_socket) ?? $"nbd+unix:///?socket={_socket}";

    /// <summary>The same for QEMU's tools, several arguments.</summary>
    public string[] ForQemuImg => _tls?.ForQemuImg(_socket) ?? ["-f", "raw", Uri];

    public static NbdServer Platter(BenchContext bench, string format, string image, bool writable = false, NbdTls? tls = null) =>
        new("platter", bench.Scratch, socket => [bench.Platter, "serve", .. writable ? ["-w"] : Array.Empty<string>(), "-f", format, .. tls?.ForPlatter ?? [], "-k", socket, image], tls);

    public static NbdServer QemuNbd(BenchContext bench, string format, string image, bool writable = false, NbdTls? tls = null) =>
        new("qemu-nbd", bench.Scratch, socket => [bench.Tools.Require("qemu-nbd"), .. writable ? Array.Empty<string>() : ["-r"], "-t", "-e", "128", "-f", format, .. tls?.ForQemuNbd ?? [], "-k", socket, image], tls);

    public static NbdServer Nbdkit(BenchContext bench, string image, bool writable = false, NbdTls? tls = null) =>
        new("nbdkit", bench.Scratch, socket => [bench.Tools.Require("nbdkit"), "-f", .. writable ? Array.Empty<string>() : ["-r"], .. tls?.ForNbdkit ?? [], "-U", socket, "file", image], tls);

    /// <summary>A server that does nothing: what the client reaches with it is the most that it can reach with any.</summary>
    public static NbdServer Idle(BenchContext bench, long bytes) =>
        new("nbdkit null", bench.Scratch, socket => [bench.Tools.Require("nbdkit"), "-f", "-U", socket, "null", bytes.ToString(System.Globalization.CultureInfo.InvariantCulture)]);

    /// <summary>Nothing but memory: what it takes costs it a copy and no more.</summary>
    public static NbdServer NbdkitMemory(BenchContext bench, long size) =>
        new("nbdkit-memory", bench.Scratch, socket => [bench.Tools.Require("nbdkit"), "-f", "-U", socket, "memory", size.ToString(System.Globalization.CultureInfo.InvariantCulture)]);

    public void Dispose()
    {
        Process.Dispose();
        File.Delete(_socket);
    }

    // The kernel's table of sockets (flag 0x10000 means listening): connecting to find out would count as a client for some servers.
    private bool IsListening() =>
        File.ReadLines("/proc/net/unix").Any(l => l.EndsWith(" " + _socket, StringComparison.Ordinal) && l.Split(' ')[3] == "00010000");
}
