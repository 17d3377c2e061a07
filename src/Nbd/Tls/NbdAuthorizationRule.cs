namespace Platter.Nbd.Tls;

/// <summary>One rule of <see cref="NbdAuthorization"/>.</summary>
/// <param name="Match">A name; upper and lower case differ.</param>
/// <param name="Allow">Whether whom it matches is let in.</param>
/// <param name="IsGlob">Whether <c>*</c> stands for any characters and <c>?</c> for any one.</param>
public sealed record NbdAuthorizationRule(string Match, bool Allow, bool IsGlob = false)
{
    /// <summary>Whether this rule is about somebody.</summary>
    public bool Matches(string identity) => IsGlob ? MatchesGlob(identity) : Match == identity;

    // Steps back to the last asterisk only, so that no pattern takes more than length times length.
    private bool MatchesGlob(string text)
    {
        var (at, position, star, retry) = (0, 0, -1, 0);
        while (position < text.Length)
        {
            if (at < Match.Length && Match[at] == '*')
            {
                (star, retry) = (at++, position);
            }
            else if (at < Match.Length && (Match[at] == '?' || Match[at] == text[position]))
            {
                at++;
                position++;
            }
            else if (star >= 0)
            {
                (at, position) = (star + 1, ++retry);
            }
            else
            {
                return false;
            }
        }

        return Match.AsSpan(at).Trim('*').IsEmpty;
    }
}
