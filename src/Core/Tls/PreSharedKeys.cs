using System.Security.Cryptography;
using System.Text;
using Platter.Core.Errors;

namespace Platter.Core.Tls;

/// <summary>The keys of a file <c>keys.psk</c> as <c>psktool</c> makes it: a line <c>NAME:HEXKEY</c> for each client.</summary>
/// <remarks>Immutable and thread-safe. A name that starts with '#' is given in hexadecimal digits.</remarks>
public sealed class PreSharedKeys
{
    /// <summary>Longest name, in bytes.</summary>
    public const int MaxIdentityBytes = 128;

    /// <summary>Shortest key, in bytes: what can be guessed is no key.</summary>
    public const int MinKeyBytes = 16;

    /// <summary>Longest key, in bytes.</summary>
    public const int MaxKeyBytes = 256;

    private const int MaxFileBytes = 1 << 20;

    private readonly PreSharedKey[] _keys;

    private PreSharedKeys(PreSharedKey[] keys) => _keys = keys;

    /// <summary>How many clients have a key; at least one.</summary>
    public int Count => _keys.Length;

    /// <summary>Reads a file.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/> or <see cref="BlockErrorKind.AccessDenied"/>: it cannot be read;
    /// <see cref="BlockErrorKind.InvalidRequest"/>: it is not such a file. No message tells a key.</exception>
    public static PreSharedKeys Load(string path)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 1);
            var bytes = new byte[MaxFileBytes + 1];
            var length = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            return length <= MaxFileBytes
                ? Parse(path, bytes.AsSpan(0, length))
                : throw Invalid(path, $"is larger than {MaxFileBytes} bytes");
        }
        catch (Exception e) when (e is (IOException and not BlockException) or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw e is FileNotFoundException or DirectoryNotFoundException
                ? new BlockException(BlockErrorKind.NotFound, $"{path}: no such file of pre-shared keys", e)
                : new BlockException(BlockErrorKind.AccessDenied, $"{path}: the pre-shared keys cannot be read", e);
        }
    }

    /// <summary>Parses the bytes of a file.</summary>
    /// <param name="name">What messages call it.</param>
    /// <param name="bytes">Its contents.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: a line is wrong, a name occurs twice, or there is none at all.</exception>
    public static PreSharedKeys Parse(string name, ReadOnlySpan<byte> bytes)
    {
        var keys = new List<PreSharedKey>();
        var seen = new HashSet<string>();
        var number = 0;
        foreach (var range in bytes.Split((byte)'\n'))
        {
            number++;
            var line = bytes[range].TrimEnd((byte)'\r');
            if (line.IsEmpty)
            {
                continue;
            }

            var key = ParseLine(line) ?? throw Invalid(
                name, $"line {number}: expected NAME:KEY, a name of 1 to {MaxIdentityBytes} bytes and a key of {MinKeyBytes} to {MaxKeyBytes} bytes in hexadecimal digits");
            keys.Add(seen.Add(Convert.ToHexString(key.Identity)) ? key : throw Invalid(name, $"line {number}: this name has a key already"));
        }

        return keys.Count > 0 ? new([.. keys]) : throw Invalid(name, "holds no keys");
    }

    /// <summary>The key of a client. Looks at all of them, so that the time tells nothing.</summary>
    /// <param name="identity">Its name.</param>
    /// <returns>Null when there is none.</returns>
    public PreSharedKey? Find(ReadOnlySpan<byte> identity)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(identity, hash);
        PreSharedKey? found = null;
        foreach (var key in _keys)
        {
            if (key.IsOf(hash))
            {
                found = key;
            }
        }

        return found;
    }

    /// <summary>The key of a client that must be there.</summary>
    /// <param name="name">What messages call the file.</param>
    /// <param name="user">The client's name.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: it is not.</exception>
    public PreSharedKey Get(string name, string user) => Find(Encoding.UTF8.GetBytes(user))
        ?? throw new BlockException(BlockErrorKind.NotFound, $"{name}: there is no key of '{SafeText.Clean(user, 128)}'");

    private static PreSharedKey? ParseLine(ReadOnlySpan<byte> line)
    {
        var colon = line.IndexOf((byte)':');
        if (colon <= 0)
        {
            return null;
        }

        var identity = line[0] == '#' ? Hex(line[1..colon]) : line[..colon].ToArray();
        return identity is { Length: > 0 and <= MaxIdentityBytes } && !identity.Contains((byte)0)
            && Hex(line[(colon + 1)..]) is { Length: >= MinKeyBytes and <= MaxKeyBytes } key ? new(identity, key) : null;
    }

    private static byte[]? Hex(ReadOnlySpan<byte> digits)
    {
        if (digits.Length % 2 != 0 || digits.Length > 2 * MaxKeyBytes)
        {
            return null;
        }

        foreach (var digit in digits)
        {
            if (!char.IsAsciiHexDigit((char)digit))
            {
                return null;
            }
        }

        return Convert.FromHexString(Encoding.ASCII.GetString(digits));
    }

    private static BlockException Invalid(string name, string problem) => new(BlockErrorKind.InvalidRequest, $"{name}: {problem}");
}
