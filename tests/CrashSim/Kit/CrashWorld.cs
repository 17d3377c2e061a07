using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>An image as an operation leaves it: what the guest reads now and in each snapshot.</summary>
/// <param name="Name">What was done last.</param>
/// <param name="Content">The guest's view.</param>
/// <param name="Snapshots">Snapshots by name.</param>
internal sealed record CrashWorld(string Name, byte[] Content, IReadOnlyDictionary<string, byte[]> Snapshots)
{
    /// <summary>Bitmaps, in their order; null if nobody looks at them.</summary>
    public IReadOnlyList<CrashBitmap>? Bitmaps { get; init; }

    /// <summary>Set for a step that writes guest data: each sector may still be the one of this content.</summary>
    public byte[]? Mixes { get; init; }

    /// <summary>Null if this is what was found, or what is different.</summary>
    public string? Difference(byte[] found)
    {
        if (found.Length != Content.Length)
        {
            return $"the disk has {found.Length} bytes, it should have {Content.Length}";
        }

        for (var at = 0; at < found.Length; at += 512)
        {
            var sector = found.AsSpan(at, 512);
            if (!sector.SequenceEqual(Content.AsSpan(at, 512)) && (Mixes is null || !sector.SequenceEqual(Mixes.AsSpan(at, 512))))
            {
                return $"guest offset 0x{at:x} holds {TestContent.Describe(sector)}, it should hold {TestContent.Describe(Content.AsSpan(at, 512))}";
            }
        }

        return null;
    }
}
