using System.Text;

namespace Platter.Core.Errors;

/// <summary>Makes text that an image or a peer supplied safe to show: no control characters, no escapes, bounded length.</summary>
public static class SafeText
{
    /// <summary>Replaces control, format and unpaired-surrogate characters by <c>\xNN</c> or <c>\uNNNN</c> and cuts after <paramref name="maxChars"/>.</summary>
    public static string Clean(string text, int maxChars = 4096)
    {
        var clean = true;
        foreach (var c in text)
        {
            clean &= IsPlain(c);
        }

        if (clean && text.Length <= maxChars)
        {
            return text;
        }

        var result = new StringBuilder();
        for (var i = 0; i < text.Length; i++)
        {
            if (result.Length >= maxChars)
            {
                return result.Append("...").ToString();
            }

            var c = text[i];
            if (char.IsHighSurrogate(c) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]))
            {
                result.Append(c).Append(text[++i]);
            }
            else if (IsPlain(c))
            {
                result.Append(c);
            }
            else
            {
                result.Append(c < 256 ? $"\\x{(int)c:x2}" : $"\\u{(int)c:x4}");
            }
        }

        return result.ToString();
    }

    // Besides C0 and C1: line separators and the bidirectional controls, which reorder what a terminal shows.
    private static bool IsPlain(char c) =>
        !char.IsControl(c) && !char.IsSurrogate(c) && c is not ('\u2028' or '\u2029' or '\u200e' or '\u200f' or '\ufeff')
        && c is not (>= '\u202a' and <= '\u202e') && c is not (>= '\u2066' and <= '\u2069');
}
