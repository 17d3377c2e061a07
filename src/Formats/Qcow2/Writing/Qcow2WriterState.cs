using Platter.Core.Codecs;
using Platter.Core.Storages;
using Platter.Formats.Qcow2.Allocation;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Writing;

/// <summary>What opening an image for writing prepares.</summary>
internal sealed record Qcow2WriterState
{
    public required Storage Storage { get; init; }

    public required Storage? DataFile { get; init; }

    /// <summary>The data file is a raw image of the disk at any time: what is zero is zero there too.</summary>
    public required bool IsRawDataFile { get; init; }

    public required GuestCipher? Cipher { get; init; }

    /// <summary>The password that the image was opened with; null when it is not encrypted.</summary>
    public Func<ReadOnlyMemory<byte>>? Password { get; init; }

    public required Qcow2Geometry Geometry { get; init; }

    public required HeaderSector Header { get; init; }

    public required TableStore Tables { get; init; }

    public required RefcountStore Refcounts { get; init; }

    /// <summary>Behind the last cluster with a refcount; looked up only where the storage does not end there.</summary>
    public required long End { get; init; }

    public required MetadataRegions Regions { get; init; }

    public required CodecProvider Codecs { get; init; }

    /// <summary>For compressed writes; null for the library's own choice.</summary>
    public int? CompressionLevel { get; init; }

    /// <summary>Whether a backing file may show through where nothing is allocated.</summary>
    public required bool HasBacking { get; init; }

    /// <summary>Whether the host gets back the space of what is given up.</summary>
    public bool GivesBackSpace { get; init; }

    /// <summary>Counts every pointer on the disk and compares: true when no refcount is too low.</summary>
    public required Func<CancellationToken, ValueTask<bool>> AreRefcountsTrue { get; init; }
}
