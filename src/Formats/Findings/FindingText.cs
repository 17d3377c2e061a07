using System.Globalization;
using System.Runtime.CompilerServices;

namespace Platter.Formats.Findings;

/// <summary>The text of a finding, made only if the tally still passes findings on.</summary>
[InterpolatedStringHandler]
internal ref struct FindingText
{
    private readonly bool _isWanted;
    private DefaultInterpolatedStringHandler _text;

    public FindingText(int literalLength, int formattedCount, CheckTally tally, out bool isWanted)
    {
        _isWanted = isWanted = tally.WantsTexts;
        _text = isWanted ? new(literalLength, formattedCount, CultureInfo.InvariantCulture) : default;
    }

    /// <summary>The text, or null when nobody wants it. Called once.</summary>
    public string? Take() => _isWanted ? _text.ToStringAndClear() : null;

    public void AppendLiteral(string text) => _text.AppendLiteral(text);

    public void AppendFormatted<T>(T value) => _text.AppendFormatted(value);

    public void AppendFormatted<T>(T value, string? format) => _text.AppendFormatted(value, format);
}
