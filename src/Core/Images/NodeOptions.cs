using System.Globalization;
using System.Text.Json;
using Platter.Core.Errors;

namespace Platter.Core.Images;

/// <summary>Options of a node as a flat list of dotted keys (<c>driver</c>, <c>file.filename</c>, <c>encrypt.key-secret</c>): what
/// <c>--image-opts</c>, <c>json:</c> names and gates speak.</summary>
/// <remarks>Not thread-safe while being built; afterwards read-only. A key that is present with null says "none" (<c>backing=null</c> in JSON).</remarks>
public sealed class NodeOptions
{
    private const int MaxJsonChars = 64 * 1024;

    // What says where the image is, and what tells the peers to do as we do anyway.
    private static readonly string[] s_ofEveryNode =
    [
        "driver", "filename", "file.", "backing", "node-name", "read-only", "auto-read-only", "force-share", "discard", "detect-zeroes", "cache.direct",
        "cache.no-flush",
    ];

    private readonly SortedDictionary<string, string?> _values = new(StringComparer.Ordinal);

    /// <summary>Every key, in ordinal order.</summary>
    public IReadOnlyCollection<string> Keys => _values.Keys;

    /// <summary>The value of a key, or null when it is absent or null.</summary>
    public string? this[string key]
    {
        get => _values.GetValueOrDefault(key);
        set => _values[key] = value;
    }

    /// <summary>The driver's name, or null when it is to be probed.</summary>
    public string? Driver => this["driver"];

    /// <summary>Options that name a local file and nothing else.</summary>
    public static NodeOptions ForFile(string path) => new() { ["driver"] = "file", ["filename"] = path };

    /// <summary>Parses <c>key=value,key=value</c>; a doubled comma stands for one comma, as with every option of the peers.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: a part without '='.</exception>
    public static NodeOptions ParseKeyValues(string text)
    {
        var result = new NodeOptions();
        foreach (var (key, value) in SplitKeyValues(text))
        {
            result[key] = value ?? throw new BlockException(
                BlockErrorKind.InvalidRequest, $"option '{SafeText.Clean(key, 256)}' has no value: expected key=value");
        }

        return result;
    }

    /// <summary>Splits <c>a=b,c,d=e,,f</c> into pairs; a part without '=' comes with a null value.</summary>
    public static IEnumerable<(string Key, string? Value)> SplitKeyValues(string text)
    {
        var part = new System.Text.StringBuilder();
        for (var i = 0; i <= text.Length; i++)
        {
            if (i < text.Length && text[i] != ',')
            {
                part.Append(text[i]);
                continue;
            }

            if (i + 1 < text.Length && text[i + 1] == ',')
            {
                part.Append(',');
                i++;
                continue;
            }

            if (part.Length > 0)
            {
                var pair = part.ToString();
                part.Clear();
                var equals = pair.IndexOf('=', StringComparison.Ordinal);
                yield return equals < 0 ? (pair, null) : (pair[..equals], pair[(equals + 1)..]);
            }
        }
    }

    /// <summary>Parses the object of a <c>json:{…}</c> name (without the prefix), nested objects becoming dotted keys.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: not an object, too long or too deep.</exception>
    public static NodeOptions ParseJson(string json)
    {
        if (json.Length > MaxJsonChars)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, $"json: name of {json.Length} characters is longer than {MaxJsonChars}");
        }

        try
        {
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 32 });
            if (document.RootElement.ValueKind != JsonValueKind.Object)
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, "json: name is not an object");
            }

            var result = new NodeOptions();
            Flatten(document.RootElement, string.Empty, result);
            return result;
        }
        catch (JsonException e)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"json: name cannot be parsed at character {e.BytePositionInLine?.ToString(CultureInfo.InvariantCulture) ?? "?"}");
        }
    }

    /// <summary>Whether the key is there, be it with null.</summary>
    public bool Has(string key) => _values.ContainsKey(key);

    /// <summary>Takes a key away.</summary>
    public void Remove(string key) => _values.Remove(key);

    /// <summary>Whether any key starts with <paramref name="prefix"/> and a dot.</summary>
    public bool HasChild(string prefix) => _values.Keys.Any(key => IsUnder(key, prefix));

    /// <summary>The options under a prefix, without it: <c>Child("file")</c> of <c>file.filename=x</c> is <c>filename=x</c>.</summary>
    public NodeOptions Child(string prefix)
    {
        var result = new NodeOptions();
        foreach (var (key, value) in _values)
        {
            if (IsUnder(key, prefix))
            {
                result[key[(prefix.Length + 1)..]] = value;
            }
        }

        return result;
    }

    /// <summary>Puts options under a prefix.</summary>
    public void SetChild(string prefix, NodeOptions child)
    {
        foreach (var (key, value) in child._values)
        {
            _values[$"{prefix}.{key}"] = value;
        }
    }

    /// <summary>Refuses options that a format does not have, so that a mistyped one is not silently without effect.</summary>
    /// <param name="format">The format's name.</param>
    /// <param name="own">The keys it has besides those of every node; one that ends in '.' stands for everything under it.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>, naming the first unknown option.</exception>
    public void RefuseUnknown(string format, params ReadOnlySpan<string> own)
    {
        foreach (var key in _values.Keys)
        {
            if (!Matches(key, s_ofEveryNode) && !Matches(key, own))
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"Block format '{format}' does not support the option '{SafeText.Clean(key, 64)}'");
            }
        }
    }

    /// <summary>A boolean option (<c>on</c>, <c>off</c>, <c>yes</c>, <c>no</c>, <c>true</c>, <c>false</c>).</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: anything else.</exception>
    public bool GetSwitch(string key, bool otherwise) => this[key] switch
    {
        null => otherwise,
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        var text => throw new BlockException(BlockErrorKind.InvalidRequest, $"option '{key}' is '{SafeText.Clean(text, 64)}': expected on or off"),
    };

    /// <summary>The options as <c>key=value,…</c>, for messages.</summary>
    public override string ToString() =>
        string.Join(',', _values.Select(pair => $"{pair.Key}={pair.Value?.Replace(",", ",,", StringComparison.Ordinal)}"));

    private static bool Matches(string key, ReadOnlySpan<string> patterns)
    {
        foreach (var pattern in patterns)
        {
            if (key == pattern || (pattern[^1] == '.' && key.StartsWith(pattern, StringComparison.Ordinal)))
            {
                return true;
            }
        }

        return false;
    }

    private static bool IsUnder(string key, string prefix) =>
        key.Length > prefix.Length + 1 && key[prefix.Length] == '.' && key.StartsWith(prefix, StringComparison.Ordinal);

    private static void Flatten(JsonElement element, string prefix, NodeOptions into)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                foreach (var property in element.EnumerateObject())
                {
                    Flatten(property.Value, prefix.Length == 0 ? property.Name : $"{prefix}.{property.Name}", into);
                }

                break;
            case JsonValueKind.Array:
                var index = 0;
                foreach (var item in element.EnumerateArray())
                {
                    Flatten(item, $"{prefix}.{index++}", into);
                }

                break;
            case JsonValueKind.Null:
                into[prefix] = null;
                break;
            case JsonValueKind.True:
                into[prefix] = "on";
                break;
            case JsonValueKind.False:
                into[prefix] = "off";
                break;
            case JsonValueKind.String:
                into[prefix] = element.GetString();
                break;
            default:
                into[prefix] = element.GetRawText();
                break;
        }
    }
}
