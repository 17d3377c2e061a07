using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption;
using Platter.Formats.Qcow2.Encryption.Hashes;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Encryption;

/// <summary>Makes LUKS headers with key slots, somewhere in a file as qcow2 has them.</summary>
internal sealed class LuksTestVolume
{
    public const long HeaderAt = 0x30000;
    public const uint Stripes = 20;

    private readonly Random _random;
    private readonly CipherSpec _spec;
    private readonly LuksHash _hash;
    private readonly Dictionary<int, (byte[] Password, uint Iterations)> _slots = [];

    public LuksTestVolume(string cipherName = "aes", string cipherMode = "xts-plain64", int keyBytes = 64, string hash = "sha256", int seed = 42)
    {
        _random = new Random(seed);
        _spec = CipherSpec.Parse("test", HostOffset.Zero, cipherName, cipherMode, keyBytes);
        _hash = LuksHash.Find(hash)!;
        MasterKey = new byte[keyBytes];
        _random.NextBytes(MasterKey);
        var digestSalt = new byte[32];
        _random.NextBytes(digestSalt);
        var digest = new byte[20];
        _hash.StretchPassword(MasterKey, digestSalt, 10, digest);
        var inactive = new LuksKeySlot(LuksKeySlot.InactiveState, 0, new byte[32], 0, 4000);
        Header = new()
        {
            CipherName = cipherName,
            CipherMode = cipherMode,
            HashSpec = hash,
            PayloadOffsetSectors = 4096,
            KeyBytes = (uint)keyBytes,
            MasterKeyDigest = digest,
            MasterKeyDigestSalt = digestSalt,
            MasterKeyDigestIterations = 10,
            Uuid = "173c5a3e-9643-42cd-abd7-5150de09421d",
            Slots = Enumerable.Repeat(inactive, 8).ToArray(),
        };
    }

    public byte[] MasterKey { get; }

    public LuksHeader Header { get; private set; }

    public static long HeaderLength => 4096 + (8 * 4096);

    public CipherSpec Spec => _spec;

    public LuksTestVolume WithSlot(int index, string password, uint iterations = 5)
    {
        _slots[index] = (System.Text.Encoding.UTF8.GetBytes(password), iterations);
        return this;
    }

    /// <summary>The file; <paramref name="forge"/> changes the header after everything has been made from the honest one.</summary>
    public byte[] ToFile(Func<LuksHeader, LuksHeader>? forge = null)
    {
        var file = new byte[HeaderAt + HeaderLength];
        var slots = Header.Slots.ToArray();
        foreach (var (index, (password, iterations)) in _slots)
        {
            var salt = new byte[32];
            _random.NextBytes(salt);
            slots[index] = new(LuksKeySlot.ActiveState, iterations, salt, (uint)(8 + (8 * index)), Stripes);
            var material = file.AsSpan((int)(HeaderAt + slots[index].KeyMaterialOffset), (int)slots[index].MaterialBytes(MasterKey.Length));
            _random.NextBytes(material);
            AntiForensicSplitter.Split(MasterKey, material[..((int)Stripes * MasterKey.Length)], _hash);
            var slotKey = new byte[MasterKey.Length];

            // Slots that are only there to cost something need no key of theirs.
            if (iterations <= 1000)
            {
                _hash.StretchPassword(password, salt, (int)iterations, slotKey);
            }

            _spec.CreateCipher(slotKey).EncryptSectors(material, 0);
        }

        Header = Header with { Slots = slots };
        (forge?.Invoke(Header) ?? Header).WriteTo(file.AsSpan((int)HeaderAt));
        return file;
    }

    public Storage ToStorage(Func<LuksHeader, LuksHeader>? forge = null) => new MemoryStorage("disk.qcow2", ToFile(forge), readOnly: true);

    public static ValueTask<LuksVolume> OpenAsync(Storage storage, string password, long maxIterations = 100_000, long? headerLength = null) =>
        LuksVolume.OpenAsync(
            storage, new(HeaderAt), headerLength ?? HeaderLength, System.Text.Encoding.UTF8.GetBytes(password), storage.Name, maxIterations,
            cancellationToken: TestContext.Current.CancellationToken);
}
