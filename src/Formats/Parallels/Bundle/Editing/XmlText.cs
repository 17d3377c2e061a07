using System.Net;
using System.Text;
using Platter.Core.Errors;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>An XML file as the text it is, with the places of its elements: a change of one element leaves every other character as it was.</summary>
/// <remarks>For files that <see cref="XmlFile"/> has accepted: well-formed, without DTD, bounded. Comments, declarations, white space, the style of quotes and line ends
/// stay because nobody interprets them. Not thread-safe.</remarks>
internal sealed class XmlText
{
    private const string CDataStart = "<![CDATA[";

    private readonly Encoding _encoding;
    private readonly string _file;

    private XmlText(string text, Encoding encoding, string file)
    {
        (Text, _encoding, _file) = (text, encoding, file);
        Root = Scan();
    }

    /// <summary>The whole file; what an encoding mark became is its first character.</summary>
    public string Text { get; private set; }

    /// <summary>The root element. Every change makes new ones: hold no element across it.</summary>
    public Element Root { get; private set; }

    /// <summary>Takes a file.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: in an encoding that cannot be written back as it was.</exception>
    public static XmlText Parse(ReadOnlySpan<byte> bytes, string file)
    {
        var encoding = EncodingOf(bytes) ?? throw new BlockException(BlockErrorKind.Unsupported, $"{file}: cannot be changed in its encoding");
        var text = encoding.GetString(bytes);
        return encoding.GetBytes(text).AsSpan().SequenceEqual(bytes)
            ? new(text, encoding, file)
            : throw new BlockException(BlockErrorKind.Unsupported, $"{file}: cannot be changed, because some of its characters could not be written back as they are");
    }

    /// <summary>The file as it is now.</summary>
    public byte[] ToBytes() => _encoding.GetBytes(Text);

    /// <summary>The children of that name.</summary>
    public static IEnumerable<Element> Children(Element parent, string name) => parent.Children.Where(child => child.LocalName == name);

    /// <summary>The first child of that name, or null.</summary>
    public static Element? Child(Element parent, string name) => parent.Children.Find(child => child.LocalName == name);

    /// <summary>The text of a leaf as a reader sees it: without comments, without the white space around it, with references replaced.</summary>
    public string TextOf(Element leaf)
    {
        var text = new StringBuilder();
        foreach (var (start, end, isText) in Runs(leaf))
        {
            var run = Text[start..end];
            text.Append(isText ? WebUtility.HtmlDecode(run) : run.StartsWith(CDataStart, StringComparison.Ordinal) ? run[CDataStart.Length..^3] : string.Empty);
        }

        return text.ToString().Trim();
    }

    /// <summary>Replaces the text of a leaf; white space around it and comments in it stay.</summary>
    public void SetText(Element leaf, string value)
    {
        if (leaf.IsEmptyTag)
        {
            // <A/> becomes <A>value</A>.
            var slash = Text.LastIndexOf('/', leaf.End - 1);
            Replace(slash, leaf.End - slash, $">{Escape(value)}</{leaf.Name}>");
            return;
        }

        var content = new StringBuilder();
        var isSet = false;
        foreach (var (start, end, isText) in Runs(leaf))
        {
            var run = Text.AsSpan(start, end - start);
            var isCData = run.StartsWith(CDataStart);
            if (!isCData && (!isText || run.IsWhiteSpace()))
            {
                content.Append(run);
                continue;
            }

            var before = isCData ? 0 : run.Length - run.TrimStart().Length;
            var after = isCData ? 0 : run.Length - run.TrimEnd().Length;
            content.Append(run[..before]).Append(isSet ? string.Empty : Escape(value)).Append(run[^after..]);
            isSet = true;
        }

        Replace(leaf.ContentStart, leaf.ContentEnd - leaf.ContentStart, isSet ? content.ToString() : content.Append(Escape(value)).ToString());
    }

    /// <summary>Adds a copy of an element directly behind it, with all that is in it.</summary>
    public void Duplicate(Element element) => InsertBehind(element, [Text[element.Start..element.End]]);

    /// <summary>Adds texts of elements directly behind one, each on a line of its own if that is.</summary>
    public void InsertBehind(Element element, IReadOnlyList<string> texts)
    {
        var indent = IndentOf(element);
        Replace(element.End, 0, string.Concat(texts.Select(text => indent + text)));
    }

    /// <summary>A copy of an element, to be changed by itself.</summary>
    public XmlText Extract(Element element) => new(Text[element.Start..element.End], _encoding, _file);

    /// <summary>Removes an element and the white space before it.</summary>
    public void Remove(Element element)
    {
        var start = element.Start - IndentOf(element).Length;
        Replace(start, element.End - start, string.Empty);
    }

    /// <summary>The value of an attribute as it is written, its name in any case; or null.</summary>
    public string? AttributeOf(Element element, string name)
    {
        for (var at = element.Start + 1 + element.Name.Length; at < element.ContentStart;)
        {
            var equals = Text.IndexOf('=', at, element.ContentStart - at);
            var quote = equals < 0 ? -1 : Text.AsSpan(equals, element.ContentStart - equals).IndexOfAny('"', '\'') + equals;
            if (equals < 0 || quote < equals)
            {
                return null;
            }

            var end = Text.IndexOf(Text[quote], quote + 1);
            if (Text.AsSpan(at, equals - at).Trim().Equals(name, StringComparison.OrdinalIgnoreCase))
            {
                return Text[(quote + 1)..end];
            }

            at = end + 1;
        }

        return null;
    }

    /// <summary>Removes an element but for its children of a name, which take its place.</summary>
    public void RemoveAround(Element element, string kept)
    {
        var start = element.Start - IndentOf(element).Length;
        Replace(start, element.End - start, string.Concat(Children(element, kept).Select(child => IndentOf(child) + Text[child.Start..child.End])));
    }

    /// <summary>Adds an element behind the last child of a name; where there is none, behind all children.</summary>
    /// <param name="parent">The element around it.</param>
    /// <param name="element">What to add; its name also says behind which children.</param>
    public void Append(Element parent, NewElement element)
    {
        var before = parent.Children.FindLast(child => child.LocalName == element.Name) ?? parent.Children.LastOrDefault();
        var prefix = parent.Name[..(parent.Name.IndexOf(':', StringComparison.Ordinal) + 1)];
        if (before is not null)
        {
            Replace(before.End, 0, Render(element, prefix, IndentOf(before), UnitOf(parent, before)));
            return;
        }

        var outer = IndentOf(parent);
        var unit = parent.Parent is { } above ? UnitOf(above, parent) : "  ";
        var text = Render(element, prefix, outer.Length == 0 ? string.Empty : outer + unit, unit);
        if (parent.IsEmptyTag)
        {
            var slash = Text.LastIndexOf('/', parent.End - 1);
            Replace(slash, parent.End - slash, $">{text}{outer}</{parent.Name}>");
        }
        else
        {
            Replace(parent.ContentStart, parent.ContentEnd - parent.ContentStart, Text[parent.ContentStart..parent.ContentEnd].TrimEnd() + text + outer);
        }
    }

    /// <summary>Text as an element holds it; what the encoding lacks becomes a character reference.</summary>
    public string Escape(string value)
    {
        var result = new StringBuilder();
        foreach (var rune in value.EnumerateRunes())
        {
            switch (rune.Value)
            {
                case '&':
                    result.Append("&amp;");
                    break;
                case '<':
                    result.Append("&lt;");
                    break;
                case '>':
                    result.Append("&gt;");
                    break;
                case '"':
                    result.Append("&quot;");
                    break;
                case < ' ' or 0x7f or 0xfffe or 0xffff:
                    result.Append(' ');
                    break;
                case > 0x7e when _encoding is not (UTF8Encoding or UnicodeEncoding):
                    result.Append(System.Globalization.CultureInfo.InvariantCulture, $"&#x{rune.Value:X};");
                    break;
                default:
                    result.Append(rune.ToString());
                    break;
            }
        }

        return result.ToString();
    }

    /// <summary>The encoding that a file says it is in, if it is one that nobody here can read; else null.</summary>
    public static string? UnknownEncodingOf(ReadOnlySpan<byte> bytes) =>
        EncodingOf(bytes) is null && DeclaredEncoding(bytes) is var name && !name.StartsWith("utf-16", StringComparison.OrdinalIgnoreCase) ? name : null;

    private string Render(NewElement element, string prefix, string indent, string unit)
    {
        var attributes = string.Concat(element.Attributes.Select(a => $" {a.Name}=\"{Escape(a.Value)}\""));
        var start = $"{indent}<{prefix}{element.Name}{attributes}";
        if (element.Children.Count > 0)
        {
            var inner = indent.Length == 0 ? string.Empty : indent + unit;
            return $"{start}>{string.Concat(element.Children.Select(child => Render(child, prefix, inner, unit)))}{indent}</{prefix}{element.Name}>";
        }

        return element.Text is null ? $"{start}/>" : $"{start}>{Escape(element.Text)}</{prefix}{element.Name}>";
    }

    // White space directly before an element, back to the tag or comment before it.
    private string IndentOf(Element element)
    {
        var start = element.Start;
        while (start > 0 && char.IsWhiteSpace(Text[start - 1]))
        {
            start--;
        }

        return start > 0 && Text[start - 1] == '>' ? Text[start..element.Start] : string.Empty;
    }

    // What is between the tags of a leaf: text, and comments and the like, in turn.
    private List<(int Start, int End, bool IsText)> Runs(Element leaf)
    {
        var runs = new List<(int, int, bool)>();
        for (var at = leaf.ContentStart; at < leaf.ContentEnd;)
        {
            var mark = Text.IndexOf('<', at, leaf.ContentEnd - at);
            if (mark != at)
            {
                runs.Add((at, mark < 0 ? leaf.ContentEnd : mark, true));
                at = mark < 0 ? leaf.ContentEnd : mark;
                continue;
            }

            var rest = Text.AsSpan(at);
            var end = rest.StartsWith("<!--") ? Behind("-->", at + 4) : Behind(rest.StartsWith(CDataStart) ? "]]>" : ">", at);
            runs.Add((at, end, false));
            at = end;
        }

        return runs;
    }

    private string UnitOf(Element outer, Element inner)
    {
        var (less, more) = (IndentOf(outer), IndentOf(inner));
        less = less[(less.LastIndexOf('\n') + 1)..];
        more = more[(more.LastIndexOf('\n') + 1)..];
        return more.Length > less.Length && more.StartsWith(less, StringComparison.Ordinal) ? more[less.Length..] : "  ";
    }

    private void Replace(int start, int length, string text)
    {
        Text = string.Concat(Text.AsSpan(0, start), text, Text.AsSpan(start + length));
        Root = Scan();
    }

    private Element Scan()
    {
        Element? root = null, open = null;
        for (var at = 0; (at = Text.IndexOf('<', at)) >= 0;)
        {
            var rest = Text.AsSpan(at);
            if (rest.StartsWith("<!--"))
            {
                at = Behind("-->", at + 4);
            }
            else if (rest.StartsWith(CDataStart))
            {
                at = Behind("]]>", at);
            }
            else if (rest.StartsWith("<?"))
            {
                at = Behind("?>", at);
            }
            else if (rest.StartsWith("</"))
            {
                if (open is null)
                {
                    throw Broken();
                }

                open.ContentEnd = at;
                open.End = at = Behind(">", at);
                open = open.Parent;
            }
            else
            {
                var element = StartTag(ref at, open);
                open?.Children.Add(element);
                root ??= element;
                open = element.IsEmptyTag ? open : element;
            }
        }

        return open is null && root is not null ? root : throw Broken();
    }

    private Element StartTag(ref int at, Element? parent)
    {
        var start = at;
        var name = ++at;
        while (at < Text.Length && Text[at] is not (' ' or '\t' or '\r' or '\n' or '/' or '>'))
        {
            at++;
        }

        var element = new Element(Text[name..at], start, parent);
        while (at < Text.Length && Text[at] != '>')
        {
            at = Text[at] is '"' or '\'' ? Behind(Text[at].ToString(), at + 1) : at + 1;
        }

        if (at >= Text.Length)
        {
            throw Broken();
        }

        element.IsEmptyTag = Text[at - 1] == '/';
        element.ContentStart = element.ContentEnd = element.End = ++at;
        return element;
    }

    private int Behind(string mark, int from)
    {
        var found = Text.IndexOf(mark, from, StringComparison.Ordinal);
        return found < 0 ? throw Broken() : found + mark.Length;
    }

    private BlockException Broken() => new(BlockErrorKind.CorruptImage, $"{_file}: is not well-formed XML");

    private static Encoding? EncodingOf(ReadOnlySpan<byte> bytes)
    {
        if (bytes.StartsWith((ReadOnlySpan<byte>)[0xff, 0xfe]) || bytes.StartsWith((ReadOnlySpan<byte>)[(byte)'<', 0]))
        {
            return new UnicodeEncoding(bigEndian: false, byteOrderMark: false);
        }

        if (bytes.StartsWith((ReadOnlySpan<byte>)[0xfe, 0xff]) || bytes.StartsWith((ReadOnlySpan<byte>)[0, (byte)'<']))
        {
            return new UnicodeEncoding(bigEndian: true, byteOrderMark: false);
        }

        return DeclaredEncoding(bytes).ToUpperInvariant() switch
        {
            "UTF-8" or "UTF8" => new UTF8Encoding(encoderShouldEmitUTF8Identifier: false),
            "US-ASCII" or "ASCII" => Encoding.ASCII,
            "ISO-8859-1" or "LATIN1" => Encoding.Latin1,
            _ => null,
        };
    }

    // Of a file in bytes, by its declaration.
    private static string DeclaredEncoding(ReadOnlySpan<byte> bytes)
    {
        var head = Encoding.Latin1.GetString(bytes[..Math.Min(bytes.Length, 256)]);
        var declaration = head.StartsWith("<?xml", StringComparison.Ordinal) && head.IndexOf("?>", StringComparison.Ordinal) is > 0 and var end ? head[..end] : string.Empty;
        var named = declaration.IndexOf("encoding", StringComparison.Ordinal);
        var value = named < 0 ? "utf-8" : declaration[(named + 8)..].Trim(' ', '\t', '\r', '\n', '=').Trim();
        return value.Length > 1 && value[0] is '"' or '\'' ? value[1..].Split(value[0])[0] : value;
    }

    /// <summary>Where an element is in the text.</summary>
    /// <param name="Name">With its prefix.</param>
    /// <param name="Start">Of its start tag.</param>
    /// <param name="Parent">The element around it, or null.</param>
    internal sealed record Element(string Name, int Start, Element? Parent)
    {
        /// <summary>The name without prefix.</summary>
        public string LocalName { get; } = Name[(Name.IndexOf(':', StringComparison.Ordinal) + 1)..];

        /// <summary>In the order of the file.</summary>
        public List<Element> Children { get; } = [];

        /// <summary>Whether it is one tag that ends itself.</summary>
        public bool IsEmptyTag { get; set; }

        /// <summary>Behind the start tag.</summary>
        public int ContentStart { get; set; }

        /// <summary>The place of the end tag.</summary>
        public int ContentEnd { get; set; }

        /// <summary>Behind the end tag.</summary>
        public int End { get; set; }
    }

    /// <summary>An element that is to be added.</summary>
    /// <param name="Name">Without prefix.</param>
    /// <param name="Text">Of a leaf; null for an empty tag or where there are children.</param>
    internal sealed record NewElement(string Name, string? Text = null)
    {
        /// <summary>In this order.</summary>
        public IReadOnlyList<(string Name, string Value)> Attributes { get; init; } = [];

        /// <summary>In this order.</summary>
        public IReadOnlyList<NewElement> Children { get; init; } = [];
    }
}
