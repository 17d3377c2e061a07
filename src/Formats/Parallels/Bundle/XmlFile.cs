using System.Globalization;
using System.Xml;
using System.Xml.Linq;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Loads an XML file that nobody trusts: no DTD, no entities, nothing fetched, size, depth and element count bounded.</summary>
/// <remarks>The reader underneath takes the encodings that XML demands (UTF-8, UTF-16) and Latin-1. Every error is an
/// <see cref="ImageFormatException"/> that names the file and, where there is one, the line.</remarks>
internal static class XmlFile
{
    /// <summary>Elements and attributes in one file; 500 snapshots of a disk in 25 storages stay below. Each costs some 300 bytes of memory.</summary>
    public const int MaxElements = 65_536;

    /// <summary>Nesting; what we read is five deep, what others add is hardly deeper.</summary>
    public const int MaxDepth = 64;

    private const int MaxShownChars = 128;

    /// <summary>Loads the root element, with line numbers.</summary>
    /// <param name="storage">The file.</param>
    /// <param name="maxBytes">Larger files are refused before anything is read.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    public static async ValueTask<XElement> LoadAsync(Storage storage, int maxBytes, CancellationToken cancellationToken) =>
        Load(await ReadAsync(storage, maxBytes, cancellationToken).ConfigureAwait(false), storage.Name);

    /// <summary>Reads the bytes of a file that is not too large.</summary>
    public static async ValueTask<ReadOnlyMemory<byte>> ReadAsync(Storage storage, int maxBytes, CancellationToken cancellationToken)
    {
        var length = storage.Length;
        if (length > maxBytes)
        {
            throw ImageFormatException.InDescriptor(
                storage.Name, string.Empty, 0, $"{length} bytes", $"larger than the limit of {maxBytes} bytes", BlockErrorKind.LimitExceeded);
        }

        var bytes = new byte[length];
        var read = await storage.ReadAsync(HostOffset.Zero, bytes, cancellationToken).ConfigureAwait(false);
        return bytes.AsMemory(0, read);
    }

    /// <summary>Loads the root element from bytes whose number is already bounded.</summary>
    public static XElement Load(ReadOnlyMemory<byte> bytes, string file)
    {
        try
        {
            // Twice over the same bytes: the first pass costs no memory and refuses what the second would choke on.
            using (var reader = Open(bytes))
            {
                Measure(reader, file);
            }

            using (var reader = Open(bytes))
            {
                return XDocument.Load(reader, LoadOptions.SetLineInfo).Root!;
            }
        }
        catch (Exception e) when (e is XmlException or ArgumentException or NotSupportedException or InvalidOperationException)
        {
            if (Editing.XmlText.UnknownEncodingOf(bytes.Span) is { } encoding)
            {
                throw ImageFormatException.InDescriptor(
                    file, "encoding", 1, SafeText.Clean(encoding, MaxShownChars), "only UTF-8, UTF-16, ISO-8859-1 and US-ASCII are known", BlockErrorKind.Unsupported, e);
            }

            // Without its own text: the runtime's message may be a resource key in a trimmed build, and it quotes the input.
            throw ImageFormatException.InDescriptor(
                file,
                string.Empty,
                (e as XmlException)?.LineNumber ?? 0,
                string.Empty,
                HasDocumentType(bytes.Span) ? "a document type declaration (DTD) is not allowed here" : "is not well-formed XML",
                inner: e);
        }
    }

    /// <summary>The text of a leaf element without surrounding white space.</summary>
    public static string TextOf(XElement element, string file) => element.HasElements
        ? throw Bad(element, file, string.Empty, "must hold text and no elements")
        : element.Value.Trim();

    /// <summary>The only child of that name, or null.</summary>
    public static XElement? Child(XElement parent, string name, string file)
    {
        XElement? found = null;
        foreach (var child in parent.Elements())
        {
            if (child.Name.LocalName == name)
            {
                found = found is null ? child : throw Bad(child, file, string.Empty, "is there twice");
            }
        }

        return found;
    }

    /// <summary>All children of that name.</summary>
    public static IEnumerable<XElement> Children(XElement parent, string name) => parent.Elements().Where(child => child.Name.LocalName == name);

    /// <summary>The only child of that name.</summary>
    public static XElement Required(XElement parent, string name, string file) =>
        Child(parent, name, file) ?? throw ImageFormatException.InDescriptor(
            file, PathOf(parent) is { Length: > 0 } path ? $"{path}/{name}" : name, LineOf(parent), string.Empty, "is missing");

    /// <summary>A number of sectors or the like: decimal, or hexadecimal with 0x; at most what a signed 64-bit byte count can hold.</summary>
    public static long Number(XElement element, string file, long max = long.MaxValue)
    {
        var text = TextOf(element, file);
        var hexadecimal = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
        if (!hexadecimal && text.Length > 1 && text[0] == '0')
        {
            // One reader takes such numbers for octal, others for decimal.
            throw Bad(element, file, text, "is ambiguous with its leading zero");
        }

        var parsed = hexadecimal
            ? ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value)
            : ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);
        if (!parsed)
        {
            throw Bad(element, file, text, "is not a number");
        }

        return value <= (ulong)max ? (long)value : throw Bad(element, file, text, $"must be at most {max}");
    }

    /// <summary>A GUID, with or without braces, in any case.</summary>
    public static Guid GuidOf(XElement element, string file)
    {
        var text = TextOf(element, file);
        return TryGuid(text, out var guid) ? guid : throw Bad(element, file, text, "is not a GUID");
    }

    /// <summary>Parses <c>{5fbaabe3-6958-40ff-92a7-860e329aab41}</c>, with or without braces, in any case; nothing else.</summary>
    public static bool TryGuid(string text, out Guid guid) => Guid.TryParseExact(text, "B", out guid) || Guid.TryParseExact(text, "D", out guid);

    /// <summary>An error about an element; the value is cut and cleaned.</summary>
    public static ImageFormatException Bad(
        XElement element, string file, string value, string problem, BlockErrorKind kind = BlockErrorKind.CorruptImage) =>
        ImageFormatException.InDescriptor(file, PathOf(element), LineOf(element), SafeText.Clean(value, MaxShownChars), problem, kind);

    /// <summary>The line an element starts on.</summary>
    public static int LineOf(XElement element) => ((IXmlLineInfo)element).LineNumber;

    /// <summary>"Storage[1]/Image[2]/Type": without the root and without <c>StorageData</c>; repeated elements are counted from 1.</summary>
    public static string PathOf(XElement element)
    {
        var parts = new Stack<string>();
        for (var current = element; current.Parent is not null; current = current.Parent)
        {
            var name = current.Name.LocalName;
            if (name is "Storage" or "Image" or "Shot")
            {
                parts.Push($"{name}[{1 + current.ElementsBeforeSelf().Count(e => e.Name.LocalName == name)}]");
            }
            else if (name != "StorageData" || ReferenceEquals(current, element))
            {
                parts.Push(SafeText.Clean(name, MaxShownChars));
            }
        }

        return string.Join('/', parts);
    }

    private static void Measure(XmlReader reader, string file)
    {
        var elements = 0;
        while (reader.Read())
        {
            if (reader.NodeType != XmlNodeType.Element)
            {
                continue;
            }

            var line = (reader as IXmlLineInfo)?.LineNumber ?? 0;
            if (reader.Depth >= MaxDepth)
            {
                throw ImageFormatException.InDescriptor(
                    file, string.Empty, line, string.Empty, $"elements are nested deeper than {MaxDepth}", BlockErrorKind.LimitExceeded);
            }

            elements += 1 + reader.AttributeCount;
            if (elements > MaxElements)
            {
                throw ImageFormatException.InDescriptor(
                    file, string.Empty, line, string.Empty, $"has more than {MaxElements} elements and attributes", BlockErrorKind.LimitExceeded);
            }
        }
    }

    private static XmlReader Open(ReadOnlyMemory<byte> bytes) => XmlReader.Create(
        new MemoryStream(bytes.ToArray(), writable: false),
        new XmlReaderSettings
        {
            DtdProcessing = DtdProcessing.Prohibit,
            XmlResolver = null,
            MaxCharactersFromEntities = 1,
            IgnoreComments = true,
            IgnoreProcessingInstructions = true,
            IgnoreWhitespace = true,
            CloseInput = true,
        });

    private static bool HasDocumentType(ReadOnlySpan<byte> bytes)
    {
        // UTF-16 puts zeros between the letters.
        var letters = new byte[bytes.Length];
        var count = 0;
        foreach (var b in bytes)
        {
            if (b != 0)
            {
                letters[count++] = b;
            }
        }

        return letters.AsSpan(0, count).IndexOf("<!DOCTYPE"u8) >= 0;
    }
}
