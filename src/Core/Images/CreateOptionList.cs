using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Core.Images;

/// <summary>The options that a format takes when an image is made, in the order in which they are told to the user.</summary>
public sealed class CreateOptionList
{
    private readonly CreateOption[] _options;

    /// <summary>Lists them.</summary>
    public CreateOptionList(params CreateOption[] options) => _options = options;

    /// <summary>A list of none: the format cannot make images.</summary>
    public static CreateOptionList Empty { get; } = new();

    /// <summary>The options.</summary>
    public IReadOnlyList<CreateOption> Options => _options;

    /// <summary>Judges names and kinds of values, not the values themselves, and writes numbers in one way: sizes and numbers as decimal digits.
    /// Switches stay as they were written; one that is only named means <c>on</c>, and <c>off</c> with <c>no</c> before its name.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>, naming the option.</exception>
    public NodeOptions Normalize(NodeOptions given)
    {
        var result = new NodeOptions();
        foreach (var key in given.Keys)
        {
            var value = given[key];
            if (Find(key) is { } option)
            {
                result[key] = Normalize(option, value);
            }
            else if (value is null && key.StartsWith("no", StringComparison.Ordinal) && Find(key[2..]) is { Kind: CreateOptionKind.Switch } negated)
            {
                result[negated.Name] = "off";
            }
            else
            {
                throw Invalid($"Invalid parameter '{SafeText.Clean(key, 64)}'");
            }
        }

        return result;
    }

    private CreateOption? Find(string name) => Array.Find(_options, option => option.Name == name);

    private static string Normalize(CreateOption option, string? value)
    {
        switch (option.Kind)
        {
            case CreateOptionKind.Size:
                return ByteCount.TryParse(value ?? string.Empty, out var bytes)
                    ? bytes.ToString(CultureInfo.InvariantCulture)
                    : throw Invalid($"Parameter '{option.Name}' expects a non-negative number below 2^64");
            case CreateOptionKind.Number:
                return TryParseNumber(value ?? string.Empty, out var number)
                    ? number.ToString(CultureInfo.InvariantCulture)
                    : throw Invalid($"Parameter '{option.Name}' expects a number");
            case CreateOptionKind.Switch:
                return value switch
                {
                    null => "on",
                    "on" or "yes" or "true" or "y" or "off" or "no" or "false" or "n" => value,
                    _ => throw Invalid($"Parameter '{option.Name}' expects 'on' or 'off'"),
                };
            default:
                return value ?? "on";
        }
    }

    private static bool TryParseNumber(string text, out long number) => text.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
        ? long.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out number)
        : long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out number);

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
