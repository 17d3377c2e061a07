using System.Collections;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Platter.Core.Errors;
using Platter.Host.Native;

namespace Platter.Host.Sockets;

/// <summary>A server that was started for us alone: it inherits a listening socket as a service manager would hand it over (<c>LISTEN_FDS</c>), and ends with us.</summary>
/// <remarks>The socket lies in a directory of its own that nobody else can enter.</remarks>
public sealed class ActivatedServer : IDisposable
{
    private const int SIGKILL = 9, SIGTERM = 15;

    // The shell has the process id that its successor will have, and that the server wants to see in the variable.
    private const string Script = "unset LISTEN_FDNAMES; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";

    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    private readonly DirectoryInfo _directory;
    private readonly int _process;
    private bool _ended;

    private ActivatedServer(string name, DirectoryInfo directory, string socketPath, int process)
    {
        Name = name;
        SocketPath = socketPath;
        _directory = directory;
        _process = process;
    }

    /// <summary>Its command line, for messages.</summary>
    public string Name { get; }

    /// <summary>Where to connect.</summary>
    public string SocketPath { get; }

    /// <summary>Starts it. Whoever connects then waits until it is ready.</summary>
    /// <param name="command">The program, looked for as a shell does, and its arguments.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: there is no such program; <see cref="BlockErrorKind.Unsupported"/>: not on this system; others as met.</exception>
    public static ActivatedServer Start(IReadOnlyList<string> command)
    {
        var name = SafeText.Clean(string.Join(' ', command), 256);
        if (!OperatingSystem.IsLinux())
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{name}: servers can be started on Linux only");
        }

        var program = command[0];
        if (!IsThere(program))
        {
            throw new BlockException(BlockErrorKind.NotFound, $"{SafeText.Clean(program, 256)}: there is no such program");
        }

        var directory = Directory.CreateTempSubdirectory("platter-nbd-");
        try
        {
            var path = Path.Combine(directory.FullName, "socket");

            // .NET deletes the name that it was bound to when it closes our end, which must not stay: without a server, connecting shall fail.
            using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            socket.Bind(new UnixDomainSocketEndPoint(path + ".new"));
            socket.Listen(16);
            File.Move(path + ".new", path);
            var error = LinuxCalls.Spawn(
                ["/bin/sh", "-c", Script, "sh", .. command], [.. Variables()], (int)socket.SafeHandle.DangerousGetHandle(), out var process);
            return error == 0 ? new(name, directory, path, process) : throw HostErrors.FromErrno(error, name, "could not be started");
        }
        catch (Exception e)
        {
            directory.Delete(recursive: true);
            throw e is SocketException broken ? new BlockException(BlockErrorKind.Io, $"{name}: could not be started: {broken.Message}", e) : e;
        }
    }

    /// <summary>Asks it to end, waits for that, and removes the socket.</summary>
    public void Dispose()
    {
        if (_ended)
        {
            return;
        }

        _ended = true;
        _ = LinuxCalls.Kill(_process, SIGTERM);
        var start = Environment.TickCount64;
        for (var isKilled = false; !LinuxCalls.HasEnded(_process);)
        {
            if (!isKilled && Environment.TickCount64 - start > s_patience.TotalMilliseconds)
            {
                _ = LinuxCalls.Kill(_process, SIGKILL);
                isKilled = true;
            }

            Thread.Sleep(2);
        }

        try
        {
            _directory.Delete(recursive: true);
        }
        catch (IOException)
        {
            // A socket in a temporary directory, no more.
        }
    }

    private static IEnumerable<string> Variables()
    {
        foreach (DictionaryEntry variable in Environment.GetEnvironmentVariables())
        {
            yield return $"{variable.Key}={variable.Value}";
        }
    }

    private static bool IsThere(string program) => program.Contains('/', StringComparison.Ordinal)
        ? File.Exists(program)
        : (Environment.GetEnvironmentVariable("PATH") ?? "/usr/bin:/bin").Split(':').Any(folder => File.Exists(Path.Combine(folder, program)));
}
