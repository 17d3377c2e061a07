using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Options;

/// <summary>The secrets of <c>--object secret,id=…</c>. A file is read when its secret is first asked for.</summary>
internal sealed class ObjectSecrets : ISecretSource
{
    private const long MaxSecretBytes = 1024 * 1024;

    private readonly Dictionary<string, NodeOptions> _definitions = [];

    /// <summary>Parses every definition.</summary>
    /// <exception cref="UsageException">One is not a secret, has no id or an unknown option.</exception>
    public static ISecretSource Parse(IEnumerable<string> definitions)
    {
        ObjectSecrets? secrets = null;
        foreach (var definition in definitions)
        {
            (secrets ??= new()).Add(definition);
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

    private void Add(string definition)
    {
        var options = new NodeOptions();
        if (definition.StartsWith('{'))
        {
            options = NodeOptions.ParseJson(definition);
        }
        else
        {
            var first = true;
            foreach (var (key, value) in NodeOptions.SplitKeyValues(definition))
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

        var type = options["qom-type"] ?? throw new UsageException("--object: its type is missing: expected secret,id=ID,...");
        if (type != "secret")
        {
            throw new UsageException($"--object: type '{SafeText.Clean(type, 64)}' is not supported; only secret is");
        }

        var id = options["id"] ?? throw new UsageException("--object: secret needs an id");
        foreach (var key in options.Keys)
        {
            if (key is "keyid" or "iv")
            {
                throw new UsageException("--object: secrets that are encrypted with another secret (keyid, iv) are not supported");
            }

            if (key is not ("qom-type" or "id" or "data" or "file" or "format"))
            {
                throw new UsageException($"--object: secret has no option '{SafeText.Clean(key, 64)}'");
            }
        }

        if ((options["data"] is null) == (options["file"] is null))
        {
            throw new UsageException($"--object: secret '{SafeText.Clean(id, 64)}' needs either data or file");
        }

        if (options["format"] is not (null or "raw" or "base64"))
        {
            throw new UsageException("--object: format of a secret is raw or base64");
        }

        if (!_definitions.TryAdd(id, options))
        {
            throw new UsageException($"--object: id '{SafeText.Clean(id, 64)}' is used twice");
        }
    }
}
