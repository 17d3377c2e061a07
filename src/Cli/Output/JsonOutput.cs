using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Platter.Cli.Output;

/// <summary>Writes JSON in the shape that scripts around qemu-img are used to: four spaces, one member per line, ASCII only.</summary>
/// <remarks>Written by hand because <c>Utf8JsonWriter</c> can do neither the empty-list shape nor plain quotes with ASCII-only escapes, and
/// because plain commands then start without loading <c>System.Text.Json</c>. Escaping everything outside ASCII also keeps terminal
/// controls out of the output.</remarks>
internal sealed class JsonOutput(TextWriter writer)
{
    private int _depth;
    private bool _first = true;
    private bool _named;

    /// <summary>Starts an object; members follow as <see cref="Name"/> and a value.</summary>
    public void BeginObject() => Begin('{');

    /// <summary>Ends the object.</summary>
    public void EndObject() => End('}');

    /// <summary>Starts a list.</summary>
    public void BeginArray() => Begin('[');

    /// <summary>Ends the list.</summary>
    public void EndArray() => End(']');

    /// <summary>The name of the next value.</summary>
    public void Name(string name)
    {
        Separate();
        WriteString(writer, name);
        writer.Write(": ");
        _named = true;
    }

    /// <summary>A string.</summary>
    public void Value(string text)
    {
        Separate();
        WriteString(writer, text);
    }

    /// <summary>An integer.</summary>
    public void Value(long number)
    {
        Separate();
        Span<char> digits = stackalloc char[20];
        _ = number.TryFormat(digits, out var count, provider: CultureInfo.InvariantCulture);
        writer.Write(digits[..count]);
    }

    /// <summary>A truth value.</summary>
    public void Value(bool value)
    {
        Separate();
        writer.Write(value ? "true" : "false");
    }

    /// <summary>A named string.</summary>
    public void Member(string name, string text)
    {
        Name(name);
        Value(text);
    }

    /// <summary>A named integer.</summary>
    public void Member(string name, long number)
    {
        Name(name);
        Value(number);
    }

    /// <summary>A named truth value.</summary>
    public void Member(string name, bool value)
    {
        Name(name);
        Value(value);
    }

    /// <summary>A tree of values, as a format hands it over.</summary>
    public void Value(JsonNode? node)
    {
        switch (node)
        {
            case JsonObject members:
                BeginObject();
                foreach (var (name, member) in members)
                {
                    Name(name);
                    Value(member);
                }

                EndObject();
                break;
            case JsonArray items:
                BeginArray();
                foreach (var item in items)
                {
                    Value(item);
                }

                EndArray();
                break;
            case JsonValue value when value.GetValueKind() == JsonValueKind.String:
                Value(value.GetValue<string>());
                break;
            default:
                Separate();
                writer.Write(node is null ? "null" : node.ToJsonString());
                break;
        }
    }

    /// <summary>Ends the document with a line break.</summary>
    public void Finish()
    {
        writer.Write('\n');
        _first = true;
    }

    /// <summary>Writes a string with its quotes.</summary>
    public static void WriteString(TextWriter writer, string text)
    {
        writer.Write('"');
        foreach (var c in text)
        {
            switch (c)
            {
                case '"':
                    writer.Write("\\\"");
                    break;
                case '\\':
                    writer.Write("\\\\");
                    break;
                case '\b':
                    writer.Write("\\b");
                    break;
                case '\f':
                    writer.Write("\\f");
                    break;
                case '\n':
                    writer.Write("\\n");
                    break;
                case '\r':
                    writer.Write("\\r");
                    break;
                case '\t':
                    writer.Write("\\t");
                    break;
                case >= ' ' and < '\x7f':
                    writer.Write(c);
                    break;
                default:
                    writer.Write("\\u");
                    writer.Write(((int)c).ToString("X4", CultureInfo.InvariantCulture));
                    break;
            }
        }

        writer.Write('"');
    }

    private void Begin(char bracket)
    {
        Separate();
        writer.Write(bracket);
        _depth++;
        _first = true;
    }

    private void End(char bracket)
    {
        _depth--;
        NewLine();
        writer.Write(bracket);
        _first = false;
    }

    // A value goes behind its name, or on a line of its own behind a comma.
    private void Separate()
    {
        if (_named)
        {
            _named = false;
            return;
        }

        if (!_first)
        {
            writer.Write(',');
        }

        if (_depth > 0)
        {
            NewLine();
        }

        _first = false;
    }

    private void NewLine()
    {
        writer.Write('\n');
        for (var i = 0; i < _depth; i++)
        {
            writer.Write("    ");
        }
    }
}
