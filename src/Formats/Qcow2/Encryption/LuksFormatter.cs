using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption.Hashes;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>Makes the header of a new LUKS volume: a random master key, and the first key slot, which a password opens.</summary>
/// <remarks>LUKS on-disk format 1.2.3, sections 3 and 4.1 (format, add password). Immutable.</remarks>
internal sealed class LuksFormatter
{
    private const int Stripes = 4000;
    private const int DigestBytes = 20, SaltBytes = 32;
    private const int KeyMaterialAlignment = 4096;
    private const int MinIterations = 1000;

    /// <summary>How long trying a password takes unless somebody says otherwise.</summary>
    internal const int DefaultIterTimeMilliseconds = 2000;


    private readonly CipherSpec _spec;
    private readonly string _cipherMode;
    private readonly LuksHash _hash;
    private readonly ulong _milliseconds;

    private LuksFormatter(CipherSpec spec, string cipherMode, LuksHash hash, ulong milliseconds)
    {
        _spec = spec;
        _cipherMode = cipherMode;
        _hash = hash;
        _milliseconds = milliseconds;
    }

    /// <summary>Bytes of the header with the key material of all slots.</summary>
    public long HeaderBytes => SlotAt(LuksHeader.SlotCount);

    /// <summary>Reads the options (<c>cipher-alg</c>, <c>cipher-mode</c>, <c>ivgen-alg</c>, <c>ivgen-hash-alg</c>, <c>hash-alg</c>, <c>iter-time</c> in
    /// milliseconds; others are not judged) and fills in what is left out: aes-256, xts, plain64, sha256, 2000.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: a value is unknown or does not go with the others.</exception>
    public static LuksFormatter Parse(NodeOptions options)
    {
        var algorithm = OneOf(
            "cipher-alg", options["cipher-alg"] ?? "aes-256", "aes-128", "aes-192", "aes-256", "cast5-128", "serpent-128", "serpent-192", "serpent-256",
            "twofish-128", "twofish-192", "twofish-256", "des", "3des");
        var mode = OneOf("cipher-mode", options["cipher-mode"] ?? "xts", "xts", "cbc", "ecb", "ctr");
        var generator = OneOf("ivgen-alg", options["ivgen-alg"] ?? "plain64", "plain", "plain64", "essiv");
        var ivHash = HashOf("ivgen-hash-alg", options["ivgen-hash-alg"] ?? "sha256");
        var hash = HashOf("hash-alg", options["hash-alg"] ?? "sha256");
        if (algorithm is "des" or "3des")
        {
            throw Invalid($"Algorithm '{algorithm}' not supported");
        }

        var dash = algorithm.IndexOf('-', StringComparison.Ordinal);
        var keyBytes = int.Parse(algorithm.AsSpan(dash + 1), CultureInfo.InvariantCulture) / 8 * (mode == "xts" ? 2 : 1);
        var modeText = generator == "essiv" ? $"{mode}-essiv:{ivHash.Name}" : $"{mode}-{generator}";
        CipherSpec spec;
        try
        {
            spec = CipherSpec.Parse("encrypt", HostOffset.Zero, algorithm[..dash], modeText, keyBytes);
        }
        catch (ImageFormatException)
        {
            throw Invalid(algorithm == "cast5-128" && mode == "xts"
                ? "Unsupported cipher mode xts"
                : $"Cipher '{algorithm}' in mode '{mode}' does not go with vectors '{modeText[(mode.Length + 1)..]}'");
        }

        if (Stripes * keyBytes % Sizes.SectorBytes != 0)
        {
            // Legal, but QEMU aborts when it meets such a volume.
            throw Invalid($"Cipher '{algorithm}' in mode '{mode}' is not supported: its key material does not end with a sector, and QEMU cannot open that");
        }

        var milliseconds = options["iter-time"] is { } text
            ? unchecked((ulong)long.Parse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture))
            : DefaultIterTimeMilliseconds;
        return new(spec, modeText, hash, milliseconds);
    }

    /// <summary>Makes header and key material. Takes as long as the options say, on the calling thread.</summary>
    /// <param name="password">As bytes.</param>
    /// <param name="cancellationToken">Stops between the steps.</param>
    /// <returns><see cref="HeaderBytes"/> bytes.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: the time allows for more iterations than a header can tell.</exception>
    public byte[] Make(ReadOnlySpan<byte> password, CancellationToken cancellationToken)
    {
        var digestIterations = Math.Max(IterationsFor(DigestBytes, cancellationToken) / 8, MinIterations);
        var slotIterations = IterationsFor(_spec.KeyBytes, cancellationToken);
        var masterKey = RandomNumberGenerator.GetBytes(_spec.KeyBytes);
        try
        {
            var (digest, digestSalt) = (new byte[DigestBytes], RandomNumberGenerator.GetBytes(SaltBytes));
            _hash.StretchPassword(masterKey, digestSalt, digestIterations, digest);
            cancellationToken.ThrowIfCancellationRequested();

            var result = new byte[HeaderBytes];
            var slots = new LuksKeySlot[LuksHeader.SlotCount];
            for (var i = 0; i < slots.Length; i++)
            {
                slots[i] = new(LuksKeySlot.InactiveState, 0, new byte[SaltBytes], (uint)(SlotAt(i) / Sizes.SectorBytes), Stripes);
            }

            slots[0] = slots[0] with { State = LuksKeySlot.ActiveState, Iterations = (uint)slotIterations, Salt = RandomNumberGenerator.GetBytes(SaltBytes) };
            EncryptKey(_spec, _hash, slots[0], masterKey, password, result.AsSpan((int)SlotAt(0)));
            new LuksHeader
            {
                CipherName = _spec.Algorithm,
                CipherMode = _cipherMode,
                HashSpec = _hash.Name,
                PayloadOffsetSectors = (uint)(HeaderBytes / Sizes.SectorBytes),
                KeyBytes = (uint)_spec.KeyBytes,
                MasterKeyDigest = digest,
                MasterKeyDigestSalt = digestSalt,
                MasterKeyDigestIterations = (uint)digestIterations,
                Uuid = Guid.NewGuid().ToString("D"),
                Slots = slots,
            }.WriteTo(result);
            return result;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(masterKey);
        }
    }

    /// <summary>Makes the key material of a slot: the master key, spread over stripes, encrypted with the stretched password.</summary>
    /// <param name="spec">The volume's cipher.</param>
    /// <param name="hash">The volume's hash.</param>
    /// <param name="slot">Salt, iterations and stripes.</param>
    /// <param name="masterKey">What the slot keeps.</param>
    /// <param name="password">What opens it.</param>
    /// <param name="material">Room for <see cref="LuksKeySlot.MaterialBytes"/>; filled from its start.</param>
    internal static void EncryptKey(
        CipherSpec spec, LuksHash hash, LuksKeySlot slot, ReadOnlySpan<byte> masterKey, ReadOnlySpan<byte> password, Span<byte> material)
    {
        material = material[..(int)slot.MaterialBytes(masterKey.Length)];
        var stripes = material[..((int)slot.Stripes * masterKey.Length)];
        RandomNumberGenerator.Fill(stripes);
        AntiForensicSplitter.Split(masterKey, stripes, hash);
        Span<byte> slotKey = new byte[spec.KeyBytes];
        hash.StretchPassword(password, slot.Salt.Span, (int)slot.Iterations, slotKey);
        spec.CreateCipher(slotKey).EncryptSectors(material, firstSector: 0);
        CryptographicOperations.ZeroMemory(slotKey);
    }

    /// <summary>How many iterations of PBKDF2 take the asked-for time on this machine.</summary>
    private int IterationsFor(int keyBytes, CancellationToken cancellationToken) => IterationsFor(_hash, keyBytes, _milliseconds, cancellationToken);

    /// <summary>How many iterations of PBKDF2 take so many milliseconds on this machine.</summary>
    internal static int IterationsFor(LuksHash hash, int keyBytes, ulong milliseconds, CancellationToken cancellationToken)
    {
        if (milliseconds == 0)
        {
            return MinIterations;
        }

        // The fastest of three, by the time this process had on a processor: what else runs meanwhile must not make the password cheaper to try.
        var perSecond = 0.0;
        var key = new byte[keyBytes];
        var salt = new byte[SaltBytes];
        var iterations = 1 << 12;
        for (var tries = 0; tries < 3;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var (started, startedCpu) = (Stopwatch.GetTimestamp(), ProcessorTime());
            hash.StretchPassword(salt, salt, iterations, key);
            var (seconds, cpu) = (Stopwatch.GetElapsedTime(started).TotalSeconds, (ProcessorTime() - startedCpu).TotalSeconds);
            if (seconds < 0.02 || (cpu > 0 && cpu < 0.02))
            {
                iterations *= 2;
                continue;
            }

            perSecond = Math.Max(perSecond, iterations / (cpu > 0 ? Math.Min(seconds, cpu) : seconds));
            tries++;
        }

        var wanted = perSecond * milliseconds / 1000;
        return wanted <= int.MaxValue
            ? Math.Max((int)wanted, MinIterations)
            : throw Invalid($"PBKDF iterations {(long)perSecond} too large to scale: Numerical result out of range");
    }

    private static TimeSpan ProcessorTime() =>
        OperatingSystem.IsLinux() || OperatingSystem.IsMacOS() || OperatingSystem.IsWindows() ? Environment.CpuUsage.TotalTime : TimeSpan.Zero;

    private long SlotAt(int index)
    {
        var material = Sizes.DivideRoundingUp((long)Stripes * _spec.KeyBytes, KeyMaterialAlignment) * KeyMaterialAlignment;
        return KeyMaterialAlignment + (index * material);
    }

    private static string OneOf(string parameter, string value, params ReadOnlySpan<string> allowed) =>
        allowed.Contains(value) ? value : throw Invalid($"Parameter '{parameter}' does not accept value '{SafeText.Clean(value, 64)}'");

    private static LuksHash HashOf(string parameter, string value) =>
        LuksHash.Find(value) ?? throw Invalid($"Parameter '{parameter}' does not accept value '{SafeText.Clean(value, 64)}'");

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
