using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Options;

/// <summary>The secrets of <c>--object secret,id=…</c>. A file is read when its secret is first asked for.</summary>
internal sealed class ObjectSecrets : ISecretSource
{
    private const long MaxSecretBytes = 1024 * 1024;

    private readonly Dictionary<string, NodeOptions> _definitions = [];

    /// <summary>Parses every definition and takes the secrets.</summary>
    /// <exception cref="UsageException">One is of no type we know, has no id or an unknown option.</exception>
    public static ISecretSource Parse(IEnumerable<string> definitions)
    {
        ObjectSecrets? secrets = null;
        foreach (var definition in ObjectDefinition.ParseAll(definitions))
        {
            if (definition.Type == ObjectDefinition.Secret)
            {
                (secrets ??= new()).Add(definition);
            }
        }

        return secrets is null ? NoSecrets.Instance : secrets;
    }

    /// <inheritdoc/>
    public ReadOnlyMemory<byte> Get(string id)
    {
        if (!_definitions.TryGetValue(id, out var options))
        {
            throw new BlockException(BlockErrorKind.NotFound, $"No secret with id '{SafeText.Clean(id, 64)}'");
        }

        var bytes = options["data"] is { } data ? System.Text.Encoding.UTF8.GetBytes(data) : ReadFile(options["file"]!);
        if (options["format"] != "base64")
        {
            return bytes;
        }

        try
        {
            return Convert.FromBase64String(System.Text.Encoding.UTF8.GetString(bytes));
        }
        catch (FormatException)
        {
            throw new BlockException(BlockErrorKind.WrongSecret, $"secret '{SafeText.Clean(id, 64)}' is not valid base64");
        }
    }

    /// <summary>Reads a small file, whole.</summary>
    /// <exception cref="BlockException">It cannot be read.</exception>
    public static byte[] ReadFile(string path)
    {
        try
        {
            using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 1);
            var buffer = new byte[4096];
            using var bytes = new MemoryStream();
            while (stream.Read(buffer) is var count and > 0)
            {
                bytes.Write(buffer.AsSpan(0, count));
                if (bytes.Length > MaxSecretBytes)
                {
                    throw new BlockException(BlockErrorKind.LimitExceeded, $"{path}: is too large for a password");
                }
            }

            return bytes.ToArray();
        }
        catch (Exception e) when (e is (IOException and not BlockException) or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            var why = e switch
            {
                FileNotFoundException or DirectoryNotFoundException => "No such file or directory",
                UnauthorizedAccessException => "Permission denied, or not a file",
                _ => "cannot be read",
            };
            throw new BlockException(BlockErrorKind.NotFound, $"{path}: the password cannot be read: {why}", e);
        }
    }

    private void Add(ObjectDefinition definition)
    {
        var options = definition.Options;
        var id = definition.Id;
        foreach (var key in options.Keys)
        {
            if (key is "keyid" or "iv")
            {
                throw new UsageException("--object: secrets that are encrypted with another secret (keyid, iv) are not supported");
            }
        }

        definition.RefuseUnknown("data", "file", "format");
        if ((options["data"] is null) == (options["file"] is null))
        {
            throw new UsageException($"--object: secret '{SafeText.Clean(id, 64)}' needs either data or file");
        }

        if (options["format"] is not (null or "raw" or "base64"))
        {
            throw new UsageException("--object: format of a secret is raw or base64");
        }

        _definitions.Add(id, options);
    }
}
