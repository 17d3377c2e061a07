using Platter.Core.Units;

namespace Platter.Core.Errors;

/// <summary>A structure read from an image breaks its format's rules or asks for what we do not do.</summary>
/// <remarks>The message reads "FILE: STRUCTURE at 0xOFFSET: FIELD VALUE: why"; for a text descriptor "FILE: ELEMENT at line N: VALUE: why".</remarks>
public sealed class ImageFormatException : BlockException
{
    /// <summary>Describes a bad structure.</summary>
    /// <param name="file">File or node, as its storage is named.</param>
    /// <param name="structure">The structure in the specification's words, with its index if it has one ("L2 table 17").</param>
    /// <param name="at">Host offset of the structure or the field, in bytes.</param>
    /// <param name="field">The field ("cluster_bits"), or empty when the whole structure is meant.</param>
    /// <param name="value">The offending value as text, or empty.</param>
    /// <param name="problem">Why it is refused, in a few words ("must be between 9 and 21").</param>
    /// <param name="kind">Corrupt unless the value is legal but unsupported or over a limit.</param>
    /// <param name="inner">The cause, if another error was.</param>
    public ImageFormatException(
        string file,
        string structure,
        HostOffset at,
        string field,
        string value,
        string problem,
        BlockErrorKind kind = BlockErrorKind.CorruptImage,
        Exception? inner = null)
        : base(kind, Format(file, structure, at, field, value, problem), inner)
    {
        File = file;
        Structure = structure;
        Offset = at;
        Field = field;
        Value = value;
    }

    private ImageFormatException(string message, string file, string structure, int line, string value, BlockErrorKind kind, Exception? inner)
        : base(kind, message, inner)
    {
        File = file;
        Structure = structure;
        Line = line;
        Field = string.Empty;
        Value = value;
    }

    /// <summary>File or node.</summary>
    public string File { get; }

    /// <summary>The structure in the specification's words.</summary>
    public string Structure { get; }

    /// <summary>Where it is, in bytes; 0 for a text descriptor.</summary>
    public HostOffset Offset { get; }

    /// <summary>Where it is in a text descriptor, counted from 1; 0 for everything else, or when the whole file is meant.</summary>
    public int Line { get; }

    /// <summary>The field, or empty.</summary>
    public string Field { get; }

    /// <summary>The offending value, or empty.</summary>
    public string Value { get; }

    /// <summary>Describes a bad element of a text descriptor, where lines count and not offsets.</summary>
    /// <param name="file">The descriptor.</param>
    /// <param name="element">Path of the element ("Storage[1]/Image[2]/Type"), or empty when the whole file is meant.</param>
    /// <param name="line">Its line, counted from 1, or 0.</param>
    /// <param name="value">The offending value, safe to show and of bounded length, or empty.</param>
    /// <param name="problem">Why it is refused, in a few words.</param>
    /// <param name="kind">Corrupt unless the value is legal but unsupported or over a limit.</param>
    /// <param name="inner">The cause, if another error was.</param>
    public static ImageFormatException InDescriptor(
        string file,
        string element,
        int line,
        string value,
        string problem,
        BlockErrorKind kind = BlockErrorKind.CorruptImage,
        Exception? inner = null)
    {
        var where = (element.Length, line) switch
        {
            (0, 0) => string.Empty,
            (0, _) => $"line {line}: ",
            (_, 0) => $"{element}: ",
            _ => $"{element} at line {line}: ",
        };
        return new($"{file}: {where}{(value.Length == 0 ? string.Empty : $"{value}: ")}{problem}", file, element, line, value, kind, inner);
    }

    /// <summary>Throws when fewer bytes than a structure needs could be read.</summary>
    public static void ThrowIfShort(ReadOnlySpan<byte> bytes, int needed, string file, string structure, HostOffset at)
    {
        if (bytes.Length < needed)
        {
            throw new ImageFormatException(
                file, structure, at, string.Empty, string.Empty, $"the file ends after {bytes.Length} of its {needed} bytes");
        }
    }

    private static string Format(string file, string structure, HostOffset at, string field, string value, string problem)
    {
        var what = field.Length == 0 ? string.Empty : value.Length == 0 ? $"{field}: " : $"{field} {value}: ";
        return $"{file}: {structure} at {at}: {what}{problem}";
    }
}
