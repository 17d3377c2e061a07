using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Metadata;

/// <summary>Reads pieces of tables from the image file, with one rule for files that are shorter than their clusters.</summary>
/// <remarks>Fresh images end with the last entry of their L1 table, not with its cluster. So a file may end inside a cluster, and the rest
/// of that cluster reads as zeros; a table whose cluster begins beyond the end is not there, and that is an error. Thread-safe.</remarks>
/// <param name="storage">The file.</param>
/// <param name="geometry">Its cluster size.</param>
/// <param name="zerosBeyondEnd">Anything beyond the end reads as zeros: for examining broken images.</param>
internal sealed class TableReader(Storage storage, Qcow2Geometry geometry, bool zerosBeyondEnd = false)
{
    /// <summary>For messages.</summary>
    public string FileName => storage.Name;

    /// <summary>Clusters of the file, the last of which may be cut.</summary>
    public long FileClusters => Sizes.DivideRoundingUp(storage.Length, geometry.ClusterSize);

    /// <summary>Fills <paramref name="buffer"/> from the file.</summary>
    /// <param name="at">Start of the piece.</param>
    /// <param name="buffer">Filled entirely.</param>
    /// <param name="structure">What it is ("L2 table"), with <paramref name="index"/> for messages.</param>
    /// <param name="index">Which one; negative when there is only one.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    public ValueTask ReadAsync(HostOffset at, Memory<byte> buffer, string structure, long index, CancellationToken cancellationToken)
    {
        storage.Announce(PurposeOf(structure));
        var read = storage.ReadAsync(at, buffer, cancellationToken);
        if (!read.IsCompletedSuccessfully)
        {
            return AwaitedAsync(read, at, buffer, structure, index);
        }

        Finish(read.Result, at, buffer, structure, index);
        return ValueTask.CompletedTask;
    }

    /// <summary>Reads ahead: fills the buffer as far as the file goes, <paramref name="needed"/> bytes by the rule for short files.</summary>
    /// <returns>Bytes that may be used; at least <paramref name="needed"/>.</returns>
    public async ValueTask<int> ReadSomeAsync(
        HostOffset at, Memory<byte> buffer, int needed, string structure, CancellationToken cancellationToken)
    {
        storage.Announce(PurposeOf(structure));
        var read = await storage.ReadAsync(at, buffer, cancellationToken).ConfigureAwait(false);
        if (read >= needed)
        {
            return read;
        }

        Finish(read, at, buffer[..needed], structure, -1);
        return needed;
    }

    private static StorageEvent PurposeOf(string structure) => structure switch
    {
        "L2 table" => StorageEvent.L2Load,
        "refcount block" => StorageEvent.RefblockLoad,
        "refcount table" => StorageEvent.ReftableLoad,
        _ => StorageEvent.None,
    };

    private async ValueTask AwaitedAsync(ValueTask<int> pending, HostOffset at, Memory<byte> buffer, string structure, long index) =>
        Finish(await pending.ConfigureAwait(false), at, buffer, structure, index);

    private void Finish(int read, HostOffset at, Memory<byte> buffer, string structure, long index)
    {
        if (read == buffer.Length)
        {
            return;
        }

        // Missing bytes are zeros only in the cluster that the file ends in.
        var end = at.Value + read;
        var lastWanted = at.Value + buffer.Length - 1;
        if (zerosBeyondEnd)
        {
            buffer.Span[read..].Clear();
            return;
        }

        if ((end & geometry.ClusterMask) == 0 || end >> geometry.ClusterBits != lastWanted >> geometry.ClusterBits)
        {
            var name = index < 0 ? structure : string.Create(CultureInfo.InvariantCulture, $"{structure} {index}");
            throw new ImageFormatException(
                storage.Name, name, at, string.Empty, string.Empty, $"lies beyond the end of the file at 0x{storage.Length:x}");
        }

        buffer.Span[read..].Clear();
    }
}
