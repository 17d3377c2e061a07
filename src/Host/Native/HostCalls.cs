namespace Platter.Host.Native;

/// <summary>Whether system calls that .NET lacks may be used. Every one of them has a portable way as well.</summary>
/// <remarks>Set <c>PLATTER_PORTABLE=1</c> in the environment, or <see cref="ForcePortable"/>, to use only the portable ways (tests do).</remarks>
public static class HostCalls
{
    private static bool s_forcePortable = Environment.GetEnvironmentVariable("PLATTER_PORTABLE") == "1";

    /// <summary>Use only what .NET itself offers.</summary>
    public static bool ForcePortable
    {
        get => s_forcePortable;
        set => s_forcePortable = value;
    }

    /// <summary>Whether Linux system calls can be made.</summary>
    internal static bool Linux => OperatingSystem.IsLinux() && !s_forcePortable;
}
