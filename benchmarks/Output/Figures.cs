namespace Platter.Bench.Output;

/// <summary>Figures as text, three digits that count.</summary>
internal static class Figures
{
    public static string Time(double seconds) => seconds < 1 ? $"{Digits(seconds * 1000)} ms" : $"{Digits(seconds)} s";

    public static string Rate(double perSecond, string unit) => perSecond switch
    {
        >= 1e9 => $"{Digits(perSecond / 1e9)} G{unit}/s",
        >= 1e6 => $"{Digits(perSecond / 1e6)} M{unit}/s",
        >= 1e3 => $"{Digits(perSecond / 1e3)} k{unit}/s",
        _ => $"{Digits(perSecond)} {unit}/s",
    };

    public static string Memory(long bytes) => bytes == 0 ? "–" : $"{bytes / (1024.0 * 1024):0} MiB";

    private static string Digits(double value) => value switch
    {
        >= 100 => value.ToString("0"),
        >= 10 => value.ToString("0.0"),
        _ => value.ToString("0.00"),
    };
}
