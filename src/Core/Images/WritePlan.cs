using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Images;

/// <summary>Where guest bytes are to be written: the answer to <see cref="ImageWriter.ReserveAsync"/>.</summary>
/// <remarks>Nothing of the image says so yet: the mapping is published by <see cref="ImageWriter.CommitAsync"/>, after the bytes have been written.</remarks>
public readonly record struct WritePlan
{
    /// <summary>The first guest byte of the request that the plan covers.</summary>
    public required GuestOffset Offset { get; init; }

    /// <summary>Guest bytes of the request that the plan covers; at least 1.</summary>
    public required long Length { get; init; }

    /// <summary>Where to write.</summary>
    public required Storage Storage { get; init; }

    /// <summary>Where the byte at <see cref="Offset"/> goes.</summary>
    public required HostOffset HostOffset { get; init; }

    /// <summary>Guest bytes directly before <see cref="Offset"/> that must be written too, as they read now: the rest of a new cluster.</summary>
    public long FillBefore { get; init; }

    /// <summary>Guest bytes directly behind the range that must be written too. Those beyond the end of the disk are zeros.</summary>
    public long FillAfter { get; init; }

    /// <summary>The place reads as zeros now, so zeros need not be written there.</summary>
    public bool HostReadsZero { get; init; }

    /// <summary><see cref="ImageWriter.Encode"/> must turn the bytes into what is stored.</summary>
    public bool NeedsEncoding { get; init; }

    /// <summary>The writer's own note; null for a plan that changes no mapping and needs no commit.</summary>
    public object? Token { get; init; }
}
