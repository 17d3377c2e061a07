using System.Text;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Platter.Tests.Fuzz;

/// <summary>Breaks text: numbers, names and GUIDs to awkward ones, XML elements out of place, blind damage to bytes.</summary>
internal static partial class TextMutator
{
    private static readonly string[] s_numbers =
    [
        "0", "1", "-1", "2147483647", "2147483648", "4294967295", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615",
        "18446744073709551616", "18014398509481983", "18014398509481984", "0x10", "0x", "0xffffffffffffffff", "07", "00", "1e9", "1.5", "", " 7 ", "\u0663", "+5",
        "99999999999999999999999999999999", "NaN",
    ];

    private static readonly string[] s_strings =
    [
        "", " ", ".", "..", "/", "//", "../x", "../../../../etc/passwd", "/etc/passwd", "/dev/zero", "\\\\host\\share\\x", "C:\\x\\y.hds", "a\u0000b", "a\u001b[31mb",
        "a\nb", "\u202ereversed", "json:{}", "json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", "nbd://localhost", "nbd+unix:///x?socket=/tmp/s", "http://x/y",
        "fat:/etc", "fd:0", "file:x", "{}", "{00000000-0000-0000-0000-000000000000}", "{5fbaabe3-6958-40ff-92a7-860e329aab41}",
        "{704718e1-2314-44c8-9087-d78ed36b0f4e}", "%n%s%x", "\ud800", "\ufffe", "a,b=c,,d", "disk.hdd", "disk.hdd/", "./disk.hdd/x", "../disk.hdd/x.hds", "x:y:z",
        "\"", "<", "&amp;", "]]>", "Plain", "Compressed", "1.0",
    ];

    /// <summary>A few mutations of a text.</summary>
    public static string Mutate(string text, Random random)
    {
        for (var count = 1 + random.Next(3); count > 0; count--)
        {
            text = random.Next(6) switch
            {
                0 => ReplaceMatch(Digits(), text, random, Pick(s_numbers, random)),
                1 => ReplaceMatch(Word(), text, random, Pick(s_strings, random)),
                2 => Insert(text, Pick(s_strings, random), random),
                3 => Cut(text, random),
                4 => Copy(text, random),
                _ => Insert(text, $"{(char)random.Next(0x10000)}", random),
            };
        }

        return text;
    }

    /// <summary>A few mutations of an XML file; most of them leave it well-formed, so that what is behind the parser is reached.</summary>
    public static byte[] MutateXml(byte[] xml, Random random)
    {
        for (var count = 1 + random.Next(3); count > 0; count--)
        {
            xml = random.Next(10) switch
            {
                < 6 => Elements(xml, random),
                6 => Utf8(ReplaceMatch(Digits(), Text(xml), random, Pick(s_numbers, random))),
                7 => Utf8(Prologue(Text(xml), random)),
                8 => Damage(xml, random),
                _ => Utf8(Mutate(Text(xml), random)),
            };
        }

        return random.Next(20) switch
        {
            0 => [0xff, 0xfe, .. Encoding.Unicode.GetBytes(Text(xml))],
            1 => [0xfe, 0xff, .. Encoding.BigEndianUnicode.GetBytes(Text(xml))],
            2 => [0xef, 0xbb, 0xbf, .. xml],
            _ => xml,
        };
    }

    private static byte[] Elements(byte[] xml, Random random)
    {
        XDocument document;
        try
        {
            document = XDocument.Parse(Text(xml));
        }
        catch (System.Xml.XmlException)
        {
            return Damage(xml, random);
        }

        var elements = document.Root!.DescendantsAndSelf().ToArray();
        var one = elements[random.Next(elements.Length)];
        var other = elements[random.Next(elements.Length)];
        var leaves = elements.Where(e => !e.HasElements).ToArray();
        var leaf = leaves[random.Next(leaves.Length)];
        switch (random.Next(9))
        {
            case 0 when one.Parent is not null:
                one.Remove();
                break;
            case 1:
                other.Add(new XElement(one));
                break;
            case 2 when one.Parent is not null:
                one.AddAfterSelf(new XElement(one));
                break;
            case 3:
                one.Name = random.Next(3) == 0 ? "x" : other.Name;
                break;
            case 4:
                leaf.Value = leaves[random.Next(leaves.Length)].Value;
                break;
            case 5:
                leaf.Value = Clean(Pick(s_numbers, random));
                break;
            case 6:
                leaf.Value = Clean(random.Next(8) == 0 ? new string('x', random.Next(6000)) : Pick(s_strings, random));
                break;
            case 7:
                one.SetAttributeValue("Version", Clean(Pick(s_numbers, random)));
                break;
            default:
                var nested = one;
                for (var depth = random.Next(100); depth > 0; depth--)
                {
                    var child = new XElement("Deep");
                    nested.Add(child);
                    nested = child;
                }

                break;
        }

        return Utf8(document.ToString());
    }

    private static string Prologue(string text, Random random) => random.Next(5) switch
    {
        0 => "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>" + text,
        1 => "<?xml version=\"1.1\"?>" + text,
        2 => "<?xml version=\"1.0\" encoding=\"UTF-7\"?>" + text,
        3 => "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>" + text,
        _ => text + "<second/>",
    };

    private static byte[] Damage(byte[] bytes, Random random)
    {
        if (bytes.Length == 0)
        {
            return [(byte)random.Next(256)];
        }

        var copy = bytes.ToArray();
        switch (random.Next(3))
        {
            case 0:
                copy[random.Next(copy.Length)] ^= (byte)(1 << random.Next(8));
                return copy;
            case 1:
                return copy[..random.Next(copy.Length)];
            default:
                copy[random.Next(copy.Length)] = (byte)random.Next(256);
                return copy;
        }
    }

    private static string ReplaceMatch(Regex regex, string text, Random random, string replacement)
    {
        var matches = regex.Matches(text);
        if (matches.Count == 0)
        {
            return text + replacement;
        }

        var match = matches[random.Next(matches.Count)];
        return text[..match.Index] + replacement + text[(match.Index + match.Length)..];
    }

    private static string Insert(string text, string what, Random random)
    {
        var at = random.Next(text.Length + 1);
        return text[..at] + what + text[at..];
    }

    private static string Cut(string text, Random random)
    {
        var at = random.Next(text.Length + 1);
        return text[..at] + text[Math.Min(text.Length, at + random.Next(1, 10))..];
    }

    private static string Copy(string text, Random random)
    {
        var at = random.Next(text.Length + 1);
        return Insert(text, text[at..Math.Min(text.Length, at + random.Next(1, 30))], random);
    }

    // What XML cannot hold at all would only stop the generator.
    private static string Clean(string text) => string.Concat(text.Where(System.Xml.XmlConvert.IsXmlChar));

    private static string Pick(string[] from, Random random) => from[random.Next(from.Length)];

    private static string Text(byte[] bytes) => Encoding.UTF8.GetString(bytes);

    private static byte[] Utf8(string text) => Encoding.UTF8.GetBytes(text);

    [GeneratedRegex(@"[0-9]+")]
    private static partial Regex Digits();

    [GeneratedRegex(@"[A-Za-z0-9_./-]+")]
    private static partial Regex Word();
}
