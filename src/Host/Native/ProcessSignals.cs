using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Native;

/// <summary>Signals of POSIX, by number. Thread-safe.</summary>
public static class ProcessSignals
{
    /// <summary>Sends a signal to this process. What it does is up to whoever handles it; the call may never return.</summary>
    /// <param name="signal">As the system counts them; 0 does nothing.</param>
    /// <exception cref="BlockException">The system does not know that signal, or has no signals.</exception>
    public static void Raise(int signal)
    {
        if (!OperatingSystem.IsLinux() && !OperatingSystem.IsMacOS())
        {
            throw new BlockException(BlockErrorKind.Unsupported, "this system has no signals");
        }

        if (LinuxCalls.Kill(Environment.ProcessId, signal) != 0)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"signal {signal}: {Marshal.GetPInvokeErrorMessage(Marshal.GetLastPInvokeError())}");
        }
    }
}
