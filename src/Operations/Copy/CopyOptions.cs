using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Operations.Digest;

namespace Platter.Operations.Copy;

/// <summary>How a copy is made.</summary>
public sealed record CopyOptions
{
    /// <summary>Requests in flight, 1 to 64; 0 chooses by the machine and the source.</summary>
    public int Workers { get; init; }

    /// <summary>Zero runs of at least this many bytes become holes of the target; 0 writes every byte (<c>-S</c>).</summary>
    public int SparseBytes { get; init; } = 4096;

    /// <summary>The target reads as zeros already: nothing is written where the source is zero.</summary>
    public bool TargetIsZero { get; init; }

    /// <summary>Let the host copy plain data where it can, without looking for zeros in it (<c>-C</c>).</summary>
    public bool HostCopy { get; init; }

    /// <summary>Go on after read errors: what cannot be read becomes zeros and is reported to <see cref="OnSalvaged"/>.</summary>
    public bool Salvage { get; init; }

    /// <summary>Told every unreadable range, from any worker, one at a time.</summary>
    public Action<GuestOffset, long, BlockException> OnSalvaged { get; init; } = static (_, _, _) => { };

    /// <summary>Bytes per second at most; 0 is unlimited.</summary>
    public long BytesPerSecond { get; init; }

    /// <summary>Given every byte of the disk as it is copied, if not null; what a salvage replaced is in it as zeros.</summary>
    public DigestTree? Digest { get; init; }

    /// <summary>The target is flushed whenever so many bytes more were written, so that an interrupted copy has them; 0 flushes once, at the end.</summary>
    public long FlushEveryBytes { get; init; }

    /// <summary>What the source's images from this depth on hold is left out: below the target there is the same (<c>-B</c>: 1, its backing file), or they are
    /// the target (commit). 0 copies everything.</summary>
    public int SharedDepth { get; init; }
}

/// <summary>How far a copy is.</summary>
/// <param name="Done">Guest bytes dealt with, holes included.</param>
/// <param name="Total">Guest bytes of the disk.</param>
/// <param name="Written">Bytes that went into the target.</param>
public readonly record struct CopyProgress(long Done, long Total, long Written);
