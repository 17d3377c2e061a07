using System.Text.Json;
using Platter.Core.Errors;

namespace Platter.Nbd.Tls;

/// <summary>Who is let in, by name: for certificates the subject as <see cref="DistinguishedNameText"/> writes it.</summary>
/// <remarks>The first rule that matches decides. Immutable and thread-safe.</remarks>
public sealed class NbdAuthorization
{
    private const int MaxFileBytes = 1 << 20;

    private readonly NbdAuthorizationRule[] _rules;
    private readonly bool _otherwise;

    /// <summary>Rules, in their order.</summary>
    /// <param name="rules">What decides.</param>
    /// <param name="allowOthers">What happens to those whom no rule matches.</param>
    public NbdAuthorization(IEnumerable<NbdAuthorizationRule> rules, bool allowOthers = false)
    {
        _rules = [.. rules];
        _otherwise = allowOthers;
    }

    /// <summary>Lets in one and nobody else.</summary>
    public static NbdAuthorization Only(string identity) => new([new(identity, true)]);

    /// <summary>Whether somebody is let in.</summary>
    public bool Allows(string identity)
    {
        foreach (var rule in _rules)
        {
            if (rule.Matches(identity))
            {
                return rule.Allow;
            }
        }

        return _otherwise;
    }

    /// <summary>Reads the rules of a file, QEMU's <c>authz-list-file</c>: <c>{"rules":[{"match":NAME,"policy":"allow"|"deny","format":"exact"|"glob"}],"policy":…}</c>.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: it cannot be read; <see cref="BlockErrorKind.InvalidRequest"/>: it is malformed.</exception>
    public static NbdAuthorization Load(string path)
    {
        var bytes = CredentialFile.Read(path, MaxFileBytes, "list of who is authorised");
        try
        {
            using var document = JsonDocument.Parse(bytes, new JsonDocumentOptions { MaxDepth = 8 });
            var root = document.RootElement;
            var rules = new List<NbdAuthorizationRule>();
            foreach (var property in root.EnumerateObject())
            {
                if (property.Name == "rules")
                {
                    rules.AddRange(property.Value.EnumerateArray().Select(rule => ParseRule(path, rule)));
                }
                else if (property.Name != "policy")
                {
                    throw Invalid(path, $"has the unknown member '{SafeText.Clean(property.Name, 64)}'");
                }
            }

            return new(rules, root.TryGetProperty("policy", out var policy) && ParsePolicy(path, policy.GetString()));
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw Invalid(path, "is not a list of rules in JSON");
        }
    }

    /// <summary>Whether a policy's word means that somebody is let in.</summary>
    /// <param name="name">What messages call where it stands.</param>
    /// <param name="policy">allow or deny.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: neither.</exception>
    public static bool ParsePolicy(string name, string? policy) => policy switch
    {
        "allow" => true,
        "deny" => false,
        _ => throw Invalid(name, $"policy '{SafeText.Clean(policy ?? string.Empty, 64)}' is neither allow nor deny"),
    };

    /// <summary>Whether a format's word means that <c>*</c> and <c>?</c> stand for others.</summary>
    /// <param name="name">What messages call where it stands.</param>
    /// <param name="format">exact or glob; null is exact.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: neither.</exception>
    public static bool ParseFormat(string name, string? format) => format switch
    {
        null or "exact" => false,
        "glob" => true,
        _ => throw Invalid(name, $"format '{SafeText.Clean(format, 64)}' is neither exact nor glob"),
    };

    private static NbdAuthorizationRule ParseRule(string path, JsonElement rule)
    {
        string? match = null, policy = null, format = null;
        foreach (var property in rule.EnumerateObject())
        {
            var value = property.Value.GetString();
            switch (property.Name)
            {
                case "match":
                    match = value;
                    break;
                case "policy":
                    policy = value;
                    break;
                case "format":
                    format = value;
                    break;
                default:
                    throw Invalid(path, $"a rule has the unknown member '{SafeText.Clean(property.Name, 64)}'");
            }
        }

        return new(match ?? throw Invalid(path, "a rule matches nothing: it has no 'match'"), ParsePolicy(path, policy), ParseFormat(path, format));
    }

    private static BlockException Invalid(string name, string problem) => new(BlockErrorKind.InvalidRequest, $"{name}: {problem}");
}
