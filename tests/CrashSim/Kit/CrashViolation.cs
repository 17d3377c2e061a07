namespace Platter.Tests.CrashSim;

/// <summary>A promise was broken.</summary>
internal sealed class CrashViolation(string message) : Exception(message)
{
    /// <summary>Throws if there is something to say.</summary>
    public static void ThrowIf(string? problem)
    {
        if (problem is not null)
        {
            throw new CrashViolation(problem);
        }
    }
}
