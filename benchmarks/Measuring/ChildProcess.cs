using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Platter.Bench.Measuring;

/// <summary>A program that was started to be measured: its time by <c>wait4</c>, its memory from <c>/proc</c>.</summary>
/// <remarks>
/// <see cref="System.Diagnostics.Process"/> tells neither CPU time nor memory of a program that has ended, and starts it through threads of its own; hence
/// a few calls of the C library, here and nowhere else. Peak memory is not taken from <c>ru_maxrss</c>: Linux carries the starter's own peak over
/// into it, and the starter is a .NET program. Not thread-safe.
/// </remarks>
internal sealed class ChildProcess : IDisposable
{
    private const int NoHang = 1, Killed = 9, Terminated = 15;
    private static readonly HashSet<int> Running = [];
    private static volatile bool s_ending;

    private readonly string[] _command;
    private readonly int _pid;
    private readonly long _startedAt;
    private ChildUsage? _usage;

    private ChildProcess(string[] command, int pid, long startedAt)
    {
        _command = command;
        _pid = pid;
        _startedAt = startedAt;
    }

    public int Id => _pid;

    /// <summary>Starts a program, standard input from <c>/dev/null</c>.</summary>
    /// <param name="command">Path of the program and its arguments.</param>
    /// <param name="output">File for standard output, made anew.</param>
    /// <param name="error">File for standard error, made anew.</param>
    /// <param name="input">File for standard input.</param>
    public static ChildProcess Start(string[] command, string output = "/dev/null", string error = "/dev/null", string input = "/dev/null")
    {
        const int readOnly = 0, writeNew = 0x241; // O_WRONLY | O_CREAT | O_TRUNC
        var actions = Marshal.AllocHGlobal(256); // The type is the C library's own; glibc's has 80 bytes.
        try
        {
            Check(posix_spawn_file_actions_init(actions), "posix_spawn_file_actions_init");
            Check(posix_spawn_file_actions_addopen(actions, 0, input, readOnly, 0), input);
            Check(posix_spawn_file_actions_addopen(actions, 1, output, writeNew, 0x1A4), output);
            Check(posix_spawn_file_actions_addopen(actions, 2, error, writeNew, 0x1A4), error);
            string?[] arguments = [.. command, null];
            var startedAt = Stopwatch.GetTimestamp();
            lock (Running)
            {
                if (!s_ending)
                {
                    Check(posix_spawn(out var pid, command[0], actions, 0, arguments, Variables), command[0]);
                    Running.Add(pid);
                    return new ChildProcess(command, pid, startedAt);
                }
            }

            WaitIfEnding();
            throw new BenchException("interrupted");
        }
        finally
        {
            _ = posix_spawn_file_actions_destroy(actions);
            Marshal.FreeHGlobal(actions);
        }
    }

    /// <summary>Runs a program to its end and measures it.</summary>
    /// <exception cref="BenchException">It did not exit with 0.</exception>
    public static ChildUsage Run(string[] command, string errorFile)
    {
        using var child = Start(command, error: errorFile);
        return child.WaitForExit().OrThrow(command, errorFile);
    }

    /// <summary>Runs a program to its end, looking at its peak memory all the while: for a run whose time does not count.</summary>
    /// <exception cref="BenchException">It did not exit with 0.</exception>
    public static ChildUsage RunWatchingMemory(string[] command, string errorFile)
    {
        using var child = Start(command, error: errorFile);
        long peak = 0;
        while (!child.HasExited)
        {
            // The kernel's figure only grows, so only what is new in the very last moment of a run is missed.
            peak = Math.Max(peak, child.PeakMemoryBytes);
            if (Stopwatch.GetElapsedTime(child._startedAt).TotalMilliseconds > 50)
            {
                Thread.Sleep(1);
            }
        }

        return child.WaitForExit().OrThrow(command, errorFile) with { PeakMemoryBytes = peak };
    }

    /// <summary>Ends whatever is still running; for the way out. Whoever waits for one of them, or starts another one, waits for the end of this process instead.</summary>
    public static void EndAll()
    {
        s_ending = true;
        lock (Running)
        {
            foreach (var pid in Running)
            {
                _ = kill(pid, Terminated);
            }
        }
    }

    public bool HasExited => _usage is not null || TryWait(NoHang);

    /// <summary>Most memory the program has held so far, in bytes (<c>VmHWM</c>: pages of files that it maps included); 0 when it has ended.</summary>
    public long PeakMemoryBytes
    {
        get
        {
            try
            {
                foreach (var line in File.ReadLines($"/proc/{_pid}/status"))
                {
                    if (line.StartsWith("VmHWM:", StringComparison.Ordinal))
                    {
                        return long.Parse(line.AsSpan(6, line.Length - 9).Trim()) * 1024;
                    }
                }
            }
            catch (IOException)
            {
                // It has ended meanwhile.
            }

            return 0;
        }
    }

    /// <summary>CPU time of the running program so far, all threads; the kernel tells it in ticks of 10 ms.</summary>
    public TimeSpan CpuSoFar
    {
        get
        {
            var text = File.ReadAllText($"/proc/{_pid}/stat");
            var fields = text[(text.LastIndexOf(')') + 2)..].Split(' '); // from field 3 on; the name may hold anything
            return TimeSpan.FromMilliseconds(10 * (long.Parse(fields[11]) + long.Parse(fields[12])));
        }
    }

    public ChildUsage WaitForExit()
    {
        if (_usage is null)
        {
            TryWait(0);
        }

        return _usage!;
    }

    /// <summary>Asks the program to end, and makes it end if it does not.</summary>
    public void Dispose()
    {
        if (HasExited)
        {
            return;
        }

        _ = kill(_pid, Terminated);
        for (var tries = 0; tries < 300 && !HasExited; tries++)
        {
            Thread.Sleep(10);
        }

        if (!HasExited)
        {
            _ = kill(_pid, Killed);
            WaitForExit();
        }
    }

    private static void WaitIfEnding()
    {
        if (s_ending)
        {
            Thread.Sleep(Timeout.Infinite);
        }
    }

    private bool TryWait(int options)
    {
        var usage = new long[18];
        int pid, status;
        do
        {
            pid = wait4(_pid, out status, options, usage);
        }
        while (pid < 0 && Marshal.GetLastPInvokeError() == 4); // EINTR

        if (pid == 0)
        {
            return false;
        }

        if (pid < 0)
        {
            throw new BenchException($"{_command[0]}: wait4 failed with error {Marshal.GetLastPInvokeError()}");
        }

        WaitIfEnding();
        lock (Running)
        {
            Running.Remove(_pid);
        }

        _usage = new ChildUsage(
            (status & 0x7F) == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F),
            Stopwatch.GetElapsedTime(_startedAt),
            TimeSpan.FromSeconds(usage[0] + usage[2]) + TimeSpan.FromMicroseconds(usage[1] + usage[3]),
            0);
        return true;
    }

    private static readonly string?[] Variables =
    [
        .. Environment.GetEnvironmentVariables().Cast<System.Collections.DictionaryEntry>()
            .Where(v => (string)v.Key is not "LC_ALL").Select(v => $"{v.Key}={v.Value}"),
        "LC_ALL=C", null,
    ];

    private static void Check(int error, string what)
    {
        if (error != 0)
        {
            throw new BenchException($"{what}: error {error} ({Marshal.GetPInvokeErrorMessage(error)})");
        }
    }

#pragma warning disable CA2101, SYSLIB1054, IDE1006 // Names as in C; text is UTF-8 here; generated marshalling would need unsafe blocks.
    [DllImport("libc")]
    private static extern int posix_spawn(out int pid, string path, nint actions, nint attributes, string?[] arguments, string?[] environment);

    [DllImport("libc")]
    private static extern int posix_spawn_file_actions_init(nint actions);

    [DllImport("libc")]
    private static extern int posix_spawn_file_actions_destroy(nint actions);

    [DllImport("libc")]
    private static extern int posix_spawn_file_actions_addopen(nint actions, int descriptor, string path, int flags, uint mode);

    [DllImport("libc", SetLastError = true)]
    private static extern int wait4(int pid, out int status, int options, [Out] long[] usage);

    [DllImport("libc")]
    private static extern int kill(int pid, int signal);
#pragma warning restore CA2101, SYSLIB1054, IDE1006
}
