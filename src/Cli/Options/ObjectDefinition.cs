using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Options;

/// <summary>One <c>--object TYPE,id=ID,…</c>, in any of the forms that QEMU's tools take.</summary>
/// <param name="Type">What it is.</param>
/// <param name="Id">What other options call it.</param>
/// <param name="Options">Everything else.</param>
internal sealed record ObjectDefinition(string Type, string Id, NodeOptions Options)
{
    public const string Secret = "secret", Certificates = "tls-creds-x509", Keys = "tls-creds-psk",
        AuthorizeOne = "authz-simple", AuthorizeList = "authz-list", AuthorizeFile = "authz-list-file";

    // What QEMU calls it; its manual has the other name.
    private const string AuthorizeFileToo = "authz-listfile";

    private static readonly string[] s_types = [Secret, Certificates, Keys, AuthorizeOne, AuthorizeList, AuthorizeFile];

    /// <summary>Parses every definition.</summary>
    /// <exception cref="UsageException">One is of no type we know, has no id, or the id of another one.</exception>
    public static IReadOnlyList<ObjectDefinition> ParseAll(IEnumerable<string> definitions)
    {
        var all = new List<ObjectDefinition>();
        foreach (var text in definitions)
        {
            var definition = Parse(text);
            if (all.Exists(other => other.Id == definition.Id))
            {
                throw new UsageException($"--object: id '{SafeText.Clean(definition.Id, 64)}' is used twice");
            }

            all.Add(definition);
        }

        return all;
    }

    /// <summary>Refuses options that objects of this type do not have.</summary>
    /// <param name="own">Those it has; one that ends in '.' stands for everything under it.</param>
    /// <exception cref="UsageException">There is another one.</exception>
    public void RefuseUnknown(params ReadOnlySpan<string> own)
    {
        foreach (var key in Options.Keys)
        {
            var known = false;
            foreach (var one in own)
            {
                known |= one.EndsWith('.') ? key.StartsWith(one, StringComparison.Ordinal) : key == one;
            }

            if (!known)
            {
                throw new UsageException($"--object: {Type} has no option '{SafeText.Clean(key, 64)}'");
            }
        }
    }

    /// <summary>An option that must be there.</summary>
    /// <exception cref="UsageException">It is not.</exception>
    public string Require(string key) => Options[key] ?? throw new UsageException($"--object: {Type} '{SafeText.Clean(Id, 64)}' needs {key}");

    /// <summary>An option that is on or off.</summary>
    /// <exception cref="UsageException">It is neither.</exception>
    public bool Switch(string key, bool otherwise) => Options[key] switch
    {
        null => otherwise,
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        var value => throw new UsageException($"--object: {key} is on or off, not '{SafeText.Clean(value, 64)}'"),
    };

    private static ObjectDefinition Parse(string text)
    {
        var options = new NodeOptions();
        if (text.StartsWith('{'))
        {
            options = NodeOptions.ParseJson(text);
        }
        else
        {
            var first = true;
            foreach (var (key, value) in NodeOptions.SplitKeyValues(text))
            {
                if (first && value is null)
                {
                    options["qom-type"] = key;
                }
                else
                {
                    options[key] = value ?? throw new UsageException($"--object: option '{SafeText.Clean(key, 64)}' has no value");
                }

                first = false;
            }
        }

        var type = options["qom-type"] is AuthorizeFileToo ? AuthorizeFile : options["qom-type"] ?? throw new UsageException("--object: its type is missing: expected secret,id=ID,...");
        if (Array.IndexOf(s_types, type) < 0)
        {
            throw new UsageException($"--object: type '{SafeText.Clean(type, 64)}' is not supported; {string.Join(", ", s_types)} are");
        }

        var id = options["id"] ?? throw new UsageException($"--object: {type} needs an id");
        options.Remove("qom-type");
        options.Remove("id");
        return new(type, id, options);
    }
}
