using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Nbd.Tls;

namespace Platter.Cli.Options;

/// <summary>What a command line says about TLS: with our options, or with QEMU's objects.</summary>
internal static class TlsArguments
{
    public static readonly Option Tls = new(
        '\0', "tls", "off|on|require", "Whether clients must encrypt (require, the default with credentials), may (on), or cannot (off).");

    public static readonly Option Certificates = new(
        '\0', "tls-certificates", "DIRECTORY", "Encrypt with the certificate there: server-cert.pem, server-key.pem, ca-cert.pem. See 'nbd certs'.");

    public static readonly Option VerifyPeer = new(
        '\0', "tls-verify-peer", null, "Clients need a certificate that an authority of ca-cert.pem signed.");

    public static readonly Option AuthorizedName = new(
        '\0', "tls-authz-dn", "NAME", "Only this client, by the subject of its certificate: 'O=Example,CN=client'. Can be given several times.");

    public static readonly Option PskFile = new('\0', "tls-psk", "FILE", "Encrypt with pre-shared keys: lines NAME:HEXKEY, one for each client.");

    public static readonly Option Credentials = new('\0', "tls-creds", "ID", "Encrypt, with the credentials of --object tls-creds-x509,... or tls-creds-psk,...");

    public static readonly Option Authorization = new(
        '\0', "tls-authz", "ID", "Who is let in, by the name in the certificate: --object authz-simple,... authz-list,... or authz-list-file,...");

    public static readonly Option HostName = new('\0', "tls-hostname", "NAME", "What the server's certificate must be for; for clients.");

    /// <summary>What <c>serve</c> takes.</summary>
    public static readonly Option[] OfServer = [Tls, Certificates, VerifyPeer, AuthorizedName, PskFile, Credentials, Authorization];

    /// <summary>What <c>qemu-nbd</c> takes.</summary>
    public static readonly Option[] OfPeer = [Credentials, Authorization, HostName];

    /// <summary>A server's TLS.</summary>
    /// <returns>Null for none.</returns>
    /// <exception cref="UsageException">The options contradict each other.</exception>
    /// <exception cref="BlockException">Credentials are missing or broken.</exception>
    public static NbdServerTls? Server(Arguments arguments)
    {
        var mode = arguments.Get(Tls);
        if (mode is not (null or "off" or "on" or "require"))
        {
            throw new UsageException($"Invalid --tls '{SafeText.Clean(mode, 64)}': expected off, on or require");
        }

        var credentials = arguments.Get(Credentials);
        var certificates = arguments.Get(Certificates);
        var keys = arguments.Get(PskFile);
        var given = (credentials is null ? 0 : 1) + (certificates is null ? 0 : 1) + (keys is null ? 0 : 1);
        if (given > 1)
        {
            throw new UsageException($"{Certificates}, {PskFile} and {Credentials} exclude each other");
        }

        if (given == 0)
        {
            return mode is null or "off" && !arguments.Has(VerifyPeer) && !arguments.Has(AuthorizedName) && !arguments.Has(Authorization)
                ? null
                : throw new UsageException($"TLS needs {Certificates}=DIRECTORY or {PskFile}=FILE");
        }

        if (certificates is null && (arguments.Has(VerifyPeer) || arguments.Has(AuthorizedName)))
        {
            throw new UsageException($"{VerifyPeer} and {AuthorizedName} belong to {Certificates}");
        }

        if (credentials is null && arguments.Has(Authorization))
        {
            throw new UsageException($"{Authorization} belongs to {Credentials}; {AuthorizedName} to {Certificates}");
        }

        var isRequired = mode != "on";
        var tls = credentials is not null ? ServerById(arguments, credentials, isRequired)
            : keys is not null ? NbdServerKeys.Load(KnownFormats.TlsLibrary, keys, isRequired)
            : NbdServerCertificates.Load(certificates!, new()
            {
                Library = KnownFormats.TlsLibrary,
                IsRequired = isRequired,
                VerifyPeer = arguments.Has(VerifyPeer) || arguments.Has(AuthorizedName),
                Authorization = arguments.Has(AuthorizedName) ? Always(new(arguments.GetAll(AuthorizedName).Select(static name => new NbdAuthorizationRule(name, true)))) : null,
            });
        return mode == "off" ? null : tls;
    }

    /// <summary>A client's TLS, by <c>--tls-creds</c>.</summary>
    /// <returns>Null for none.</returns>
    /// <exception cref="UsageException">The options contradict each other.</exception>
    /// <exception cref="BlockException">Credentials are missing or broken.</exception>
    public static NbdClientTls? Client(Arguments arguments) => arguments.Get(Credentials) is { } id ? Client(arguments, id)
        : arguments.Has(HostName) ? throw new UsageException($"{HostName} belongs to {Credentials}") : null;

    /// <summary>A client's TLS, by the id of its credentials.</summary>
    /// <exception cref="UsageException">There is no such object, or it is not for clients.</exception>
    /// <exception cref="BlockException">Credentials are missing or broken.</exception>
    public static NbdClientTls Client(Arguments arguments, string id)
    {
        var objects = ObjectDefinition.ParseAll(arguments.GetAll(CommonOptions.Object));
        var definition = Find(objects, id, "client", ObjectDefinition.Certificates, ObjectDefinition.Keys);
        var directory = definition.Require("dir");
        var profile = TlsPriority.Parse(definition.Options["priority"]);
        return definition.Type == ObjectDefinition.Keys
            ? NbdClientKey.Load(KnownFormats.TlsLibrary, KeysOf(directory), definition.Options["username"], profile)
            : NbdClientCertificates.Load(directory, new()
            {
                Library = KnownFormats.TlsLibrary,
                Profile = profile,
                VerifyPeer = definition.Switch("verify-peer", true),
                CheckOwn = definition.Switch("sanity-check", true),
                KeyPassword = PasswordOf(arguments, definition),
            });
    }

    private static NbdServerTls ServerById(Arguments arguments, string id, bool isRequired)
    {
        var objects = ObjectDefinition.ParseAll(arguments.GetAll(CommonOptions.Object));
        var definition = Find(objects, id, "server", ObjectDefinition.Certificates, ObjectDefinition.Keys);
        var directory = definition.Require("dir");
        var profile = TlsPriority.Parse(definition.Options["priority"]);
        var authorization = arguments.Get(Authorization) is { } authz ? AuthorizationOf(objects, authz) : null;
        if (definition.Type == ObjectDefinition.Keys)
        {
            return authorization is null
                ? NbdServerKeys.Load(KnownFormats.TlsLibrary, KeysOf(directory), isRequired, profile)
                : throw new UsageException($"{Authorization} needs certificates: who has a pre-shared key is let in");
        }

        return NbdServerCertificates.Load(directory, new()
        {
            Library = KnownFormats.TlsLibrary,
            Profile = profile,
            IsRequired = isRequired,
            VerifyPeer = definition.Switch("verify-peer", true),
            CheckOwn = definition.Switch("sanity-check", true),
            KeyPassword = PasswordOf(arguments, definition),
            Authorization = authorization,
        });
    }

    private static ObjectDefinition Find(IReadOnlyList<ObjectDefinition> objects, string id, string? endpoint, params ReadOnlySpan<string> types)
    {
        ObjectDefinition? found = null;
        foreach (var definition in objects)
        {
            found = definition.Id == id && types.Contains(definition.Type) ? definition : found;
        }

        if (found is null)
        {
            throw new UsageException($"there is no --object of type {string.Join(", ", types)} with the id '{SafeText.Clean(id, 64)}'");
        }

        if (endpoint is null)
        {
            return found;
        }

        if (found.Type == ObjectDefinition.Keys)
        {
            found.RefuseUnknown("dir", "endpoint", "username", "priority", "verify-peer");
        }
        else
        {
            found.RefuseUnknown("dir", "endpoint", "verify-peer", "sanity-check", "passwordid", "priority");
        }

        // As with QEMU, credentials are a client's unless it is said otherwise.
        if ((found.Options["endpoint"] ?? "client") is var actual && actual != endpoint)
        {
            throw new UsageException($"--object: {found.Type} '{SafeText.Clean(id, 64)}' is for endpoint={SafeText.Clean(actual, 64)}; endpoint={endpoint} is needed");
        }

        return found;
    }

    private static Func<NbdAuthorization> AuthorizationOf(IReadOnlyList<ObjectDefinition> objects, string id)
    {
        var definition = Find(objects, id, null, ObjectDefinition.AuthorizeOne, ObjectDefinition.AuthorizeList, ObjectDefinition.AuthorizeFile);
        switch (definition.Type)
        {
            case ObjectDefinition.AuthorizeOne:
                definition.RefuseUnknown("identity");
                return Always(NbdAuthorization.Only(definition.Require("identity")));
            case ObjectDefinition.AuthorizeList:
                definition.RefuseUnknown("rules.", "policy");
                return Always(ListOf(definition));
            default:
                definition.RefuseUnknown("filename", "refresh");
                var path = definition.Require("filename");
                var list = NbdAuthorization.Load(path);
                return definition.Switch("refresh", true) ? () => NbdAuthorization.Load(path) : Always(list);
        }
    }

    private static NbdAuthorization ListOf(ObjectDefinition definition)
    {
        var rules = new List<NbdAuthorizationRule>();
        for (var i = 0; definition.Options.Child("rules").HasChild($"{i}"); i++)
        {
            var rule = definition.Options.Child("rules").Child($"{i}");
            rules.Add(new(
                rule["match"] ?? throw new UsageException($"--object: authz-list: rule {i} has no match"),
                NbdAuthorization.ParsePolicy("--object: authz-list", rule["policy"]),
                NbdAuthorization.ParseFormat("--object: authz-list", rule["format"])));
        }

        return new(rules, definition.Options["policy"] is { } policy && NbdAuthorization.ParsePolicy("--object: authz-list", policy));
    }

    private static Func<NbdAuthorization> Always(NbdAuthorization authorization) => () => authorization;

    private static string KeysOf(string directory) => Path.Combine(directory, "keys.psk");

    private static string? PasswordOf(Arguments arguments, ObjectDefinition definition) => definition.Options["passwordid"] is { } id
        ? Encoding.UTF8.GetString(ObjectSecrets.Parse(arguments.GetAll(CommonOptions.Object)).Get(id).Span)
        : null;
}
