namespace Platter.Cli.Options;

/// <summary>Guesses what a mistyped word was meant to be.</summary>
internal static class Suggestion
{
    /// <summary>The nearest of the known words, or null when none is near: at most a third of its letters may be wrong.</summary>
    public static string? For<T>(string word, IReadOnlyList<T> known, Func<T, string> text)
    {
        string? best = null;
        var bestDistance = int.MaxValue;
        for (var i = 0; i < known.Count; i++)
        {
            var candidate = text(known[i]);
            var distance = Distance(word, candidate);
            if (distance < bestDistance && distance <= Math.Max(1, candidate.Length / 3))
            {
                (best, bestDistance) = (candidate, distance);
            }
        }

        return word.Length is > 1 and < 64 ? best : null;
    }

    // Edits between two words, where swapping two neighbours counts as one (optimal string alignment).
    private static int Distance(string left, string right)
    {
        if (left.Length > 64 || Math.Abs(left.Length - right.Length) > 4)
        {
            return int.MaxValue;
        }

        var rows = new int[left.Length + 1, right.Length + 1];
        for (var i = 0; i <= left.Length; i++)
        {
            for (var j = 0; j <= right.Length; j++)
            {
                if (i == 0 || j == 0)
                {
                    rows[i, j] = i + j;
                    continue;
                }

                var changed = rows[i - 1, j - 1] + (left[i - 1] == right[j - 1] ? 0 : 1);
                rows[i, j] = Math.Min(changed, Math.Min(rows[i - 1, j], rows[i, j - 1]) + 1);
                if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1])
                {
                    rows[i, j] = Math.Min(rows[i, j], rows[i - 2, j - 2] + 1);
                }
            }
        }

        return rows[left.Length, right.Length];
    }
}
