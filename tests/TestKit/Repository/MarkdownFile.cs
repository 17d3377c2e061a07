using System.Text.RegularExpressions;

namespace Platter.TestKit;

/// <summary>What the tests need to know of a Markdown file.</summary>
public sealed partial class MarkdownFile
{
    private readonly string _text;

    private MarkdownFile(string text) => _text = text;

    /// <summary>Reads a file of the repository.</summary>
    public static MarkdownFile Read(string path) => new(RepositoryFile.Read(path));

    /// <summary>The texts of its code blocks in a language, without the fences.</summary>
    public List<string> CodeBlocks(string language) =>
        [.. Fenced().Matches(_text).Where(m => m.Groups[1].Value == language).Select(m => m.Groups[2].Value.TrimEnd('\n'))];

    /// <summary>Targets of its links, outside of code.</summary>
    public List<string> Links() => [.. Link().Matches(Fenced().Replace(_text, string.Empty)).Select(m => m.Groups[1].Value)];

    /// <summary>Its headings, without the marks.</summary>
    public List<string> Headings() => [.. Heading().Matches(Fenced().Replace(_text, string.Empty)).Select(m => m.Groups[1].Value.Trim())];

    [GeneratedRegex(@"^```(\w*)\n(.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Fenced();

    [GeneratedRegex(@"\[[^\]\n]+\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex("^#+ (.*)$", RegexOptions.Multiline)]
    private static partial Regex Heading();
}
