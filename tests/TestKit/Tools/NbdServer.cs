using System.Diagnostics;
using System.Text;

namespace Platter.TestKit;

/// <summary>An NBD server on a unix socket, running until disposed.</summary>
public sealed class NbdServer : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _log = new();

    private NbdServer(ToolCommand command, string socket, string exportName)
    {
        Socket = socket;
        Uri = $"nbd+unix:///{System.Uri.EscapeDataString(exportName)}?socket={socket}";
        var info = command.ToStartInfo();
        _process = new Process { StartInfo = info };
        _process.OutputDataReceived += (_, e) => Append(e.Data);
        _process.ErrorDataReceived += (_, e) => Append(e.Data);
        _process.Start();
        _process.StandardInput.Close();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        WaitUntilListening(command);
    }

    /// <summary>Path of the socket.</summary>
    public string Socket { get; }

    /// <summary>What to give to a client.</summary>
    public string Uri { get; }

    /// <summary>What the server has printed so far.</summary>
    public string Log
    {
        get
        {
            lock (_log)
            {
                return _log.ToString();
            }
        }
    }

    /// <summary>Its process id.</summary>
    public int ProcessId => _process.Id;

    /// <summary>Serves an image read-only with qemu-nbd, to any number of clients. Skips the test if it is not installed.</summary>
    public static NbdServer QemuNbd(string image, string format, TempFolder folder, params string[] more) =>
        Start(new ToolCommand("qemu-nbd", ["-r", "-t", "-e", "8", "-f", format, .. more, "-k", "{socket}", image]), folder);

    /// <summary>Runs nbdkit with a plugin and its parameters. Skips the test if it is not installed.</summary>
    public static NbdServer Nbdkit(TempFolder folder, params string[] pluginAndParameters) =>
        Start(new ToolCommand("nbdkit", ["-f", "--exit-with-parent", "-U", "{socket}", .. pluginAndParameters]), folder);

    /// <summary>Starts any server; "{socket}" in its arguments becomes the path of a new socket.</summary>
    /// <param name="command">The server, staying in the foreground.</param>
    /// <param name="folder">Where the socket is made.</param>
    /// <param name="exportName">Name of the export in <see cref="Uri"/>.</param>
    /// <param name="prepare">Told the path of the socket before the server starts, for one that has it from a file.</param>
    /// <param name="socket">The path of another server that is gone; null for a new one.</param>
    public static NbdServer Start(ToolCommand command, TempFolder folder, string exportName = "", Action<string>? prepare = null, string? socket = null)
    {
        if (socket is not null)
        {
            File.Delete(socket);
        }

        socket ??= folder[$"nbd-{Guid.NewGuid():N}"[..12]];
        prepare?.Invoke(socket);
        string[] arguments = [.. command.Arguments.Select(a => a.Replace("{socket}", socket, StringComparison.Ordinal))];
        return new NbdServer(command with { Arguments = arguments }, socket, exportName);
    }

    /// <summary>Asks the server to end (SIGTERM) and waits.</summary>
    /// <returns>Its exit code.</returns>
    public int Stop(TimeSpan? timeout = null)
    {
        if (!_process.HasExited)
        {
            // .NET can only kill; asking nicely takes a shell.
            using var kill = Process.Start("/bin/sh", ["-c", $"kill -TERM {_process.Id}"]);
            kill.WaitForExit();
            if (!_process.WaitForExit(timeout ?? TimeSpan.FromSeconds(10)))
            {
                _process.Kill(entireProcessTree: true);
                _process.WaitForExit();
            }
        }

        return _process.ExitCode;
    }

    /// <summary>Bytes that it has read and written by system calls up to now (Linux).</summary>
    public long BytesMoved => File.ReadLines($"/proc/{_process.Id}/io").Where(line => line.StartsWith("rchar", StringComparison.Ordinal) || line.StartsWith("wchar", StringComparison.Ordinal))
        .Sum(line => long.Parse(line.AsSpan(7), System.Globalization.CultureInfo.InvariantCulture));

    /// <summary>Kills it, as a machine without power would; its socket's file stays.</summary>
    public void Kill()
    {
        _process.Kill();
        _process.WaitForExit();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Stop();
        _process.Dispose();
        File.Delete(Socket);
    }

    private void Append(string? line)
    {
        lock (_log)
        {
            _log.AppendLine(line);
        }
    }

    private void WaitUntilListening(ToolCommand command)
    {
        var watch = Stopwatch.StartNew();
        while (!IsListening())
        {
            if (_process.HasExited || watch.Elapsed > TimeSpan.FromSeconds(20))
            {
                var ended = _process.HasExited ? $"ended with {_process.ExitCode}" : "did not listen for 20 s";
                Dispose();
                throw new InvalidOperationException($"{command}\n{ended}\n{Log}");
            }

            Thread.Sleep(10);
        }
    }

    // Connecting to find out would count as a client for some servers; the kernel's table tells without (flag 0x10000 means listening).
    private bool IsListening()
    {
        const string table = "/proc/net/unix";
        return File.Exists(table)
            ? File.ReadLines(table).Any(l => l.EndsWith(" " + Socket, StringComparison.Ordinal) && l.Split(' ')[3] == "00010000")
            : File.Exists(Socket);
    }
}
