using Platter.Core.Errors;

namespace Platter.Tests.Fuzz;

/// <summary>Judges what came out: success, or a refusal in one clean line.</summary>
internal static class Oracle
{
    // SafeText cuts what is shown after 4096 characters; a longer message loses its end.
    private const int MaxMessageChars = 4096;

    // Cases that use sockets go on on other threads.
    private static readonly AsyncLocal<Tally?> s_tally = new();

    /// <summary>How many things succeeded and were refused since <see cref="StartCounting"/>: a fuzzer whose inputs are all refused tests nothing.</summary>
    public static (long Allowed, long Refused) Counts => s_tally.Value is { } tally ? (Interlocked.Read(ref tally.Allowed), Interlocked.Read(ref tally.Refused)) : default;

    /// <summary>From here on, in what this thread and its continuations do.</summary>
    public static void StartCounting() => s_tally.Value = new Tally();

    /// <summary>Runs something that may refuse. Any exception but <see cref="BlockException"/> goes on to fail the case.</summary>
    /// <param name="file">Name that a refusal must mention; null for text that is no file.</param>
    /// <param name="action">What may refuse.</param>
    /// <returns>Whether it succeeded.</returns>
    public static async ValueTask<bool> AllowsAsync(string? file, Func<ValueTask> action)
    {
        try
        {
            await action();
            CountAllowed();
            return true;
        }
        catch (BlockException e)
        {
            Judge(e, file);
            return false;
        }
    }

    /// <summary>Runs something that may refuse.</summary>
    public static bool Allows(Action action, string? file = null)
    {
        try
        {
            action();
            CountAllowed();
            return true;
        }
        catch (BlockException e)
        {
            Judge(e, file);
            return false;
        }
    }

    /// <summary>A refusal is one line of bounded length that names the file.</summary>
    public static void Judge(BlockException e, string? file)
    {
        if (s_tally.Value is { } tally)
        {
            Interlocked.Increment(ref tally.Refused);
        }

        Line(e.Message);
        if (file is not null && !e.Message.Contains(file, StringComparison.Ordinal))
        {
            throw new FuzzException($"the refusal does not name {file}: {e.Message}", e);
        }

        if (!Enum.IsDefined(e.Kind))
        {
            throw new FuzzException($"kind {e.Kind} does not exist: {e.Message}", e);
        }
    }

    /// <summary>A line that is shown after <see cref="SafeText"/>: not empty, bounded, and clean then.</summary>
    public static void Line(string text)
    {
        if (text.Trim().Length == 0)
        {
            throw new FuzzException("an empty message");
        }

        if (text.Length > MaxMessageChars)
        {
            throw new FuzzException($"a message of {text.Length} characters: {text[..200]}");
        }

        if (SafeText.Clean(text).Any(char.IsControl))
        {
            throw new FuzzException($"control characters are left in {SafeText.Clean(text)}");
        }
    }

    /// <summary>Text for a terminal: lines without control characters.</summary>
    public static void Page(string text)
    {
        foreach (var c in text)
        {
            if (char.IsControl(c) && c != '\n')
            {
                throw new FuzzException($"the control character 0x{(int)c:x2} is printed in: {text.Replace(c, '?')[..Math.Min(text.Length, 500)]}");
            }
        }
    }

    private static void CountAllowed()
    {
        if (s_tally.Value is { } tally)
        {
            Interlocked.Increment(ref tally.Allowed);
        }
    }

    private sealed class Tally
    {
        public long Allowed;
        public long Refused;
    }
}
