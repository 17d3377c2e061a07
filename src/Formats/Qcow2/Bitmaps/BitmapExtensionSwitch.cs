using System.Buffers.Binary;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Bitmaps;

// The extension's 24 bytes nearly always lie in one sector: then that one sector is written, and a cut leaves the old list or the new one. Where there is
// no extension yet, where the only bitmap goes, and where the 24 bytes lie in two sectors, the autoclear bit says meanwhile that the extension means nothing.

/// <summary>Makes a new bitmap directory the image's directory.</summary>
internal static class BitmapExtensionSwitch
{
    /// <summary>Writes the extension. What it points to is durable; nobody else writes the header.</summary>
    /// <param name="storage">The image.</param>
    /// <param name="header">Its first sector.</param>
    /// <param name="checkpoint">Writes that.</param>
    /// <param name="extension">The new values, or null for no bitmaps.</param>
    public static async ValueTask RunAsync(Storage storage, HeaderSector header, Checkpoint checkpoint, BitmapsExtension? extension)
    {
        await checkpoint.WriteHeaderAsync(CancellationToken.None).ConfigureAwait(false);
        var cluster = new byte[1 << (int)header.Header.ClusterBits];
        _ = await storage.ReadAsync(HostOffset.Zero, cluster, CancellationToken.None).ConfigureAwait(false);
        var isOn = (header.Header.Autoclear & AutoclearFeatures.Bitmaps) != 0;
        if (extension is { } values && isOn && Find(cluster, header.Header, storage.Name) is { } at)
        {
            await WriteInPlaceAsync(storage, header, checkpoint, cluster, at, values.ToBytes()).ConfigureAwait(false);
            return;
        }

        // A null array would become an empty memory, which is an extension without content, and no bitmaps at all.
        var changed = HeaderCluster.Parse(cluster, storage.Name) with { Bitmaps = extension is null ? default(ReadOnlyMemory<byte>?) : extension.Value.ToBytes() };
        _ = changed.ToBytes(storage.Name);
        await SetAutoclearAsync(header, checkpoint, false).ConfigureAwait(false);
        header.Header.WriteTo(cluster);
        changed = changed with { Header = header.Header };
        var now = await changed.ReplaceAsync(storage, cluster).ConfigureAwait(false);
        await storage.FlushAsync().ConfigureAwait(false);
        header.Replace(now);
        if (extension is not null)
        {
            await SetAutoclearAsync(header, checkpoint, true).ConfigureAwait(false);
        }
    }

    /// <summary>Whether the new values fit into the header, which is told before anything else is done.</summary>
    /// <exception cref="Core.Errors.BlockException"><see cref="Core.Errors.BlockErrorKind.NoSpace"/>: the first cluster is full.</exception>
    public static async ValueTask ThrowIfFullAsync(Storage storage, HeaderSector header, CancellationToken cancellationToken)
    {
        var cluster = new byte[1 << (int)header.Header.ClusterBits];
        _ = await storage.ReadAsync(HostOffset.Zero, cluster, cancellationToken).ConfigureAwait(false);
        _ = (HeaderCluster.Parse(cluster, storage.Name) with { Bitmaps = new byte[BitmapsExtension.Size] }).ToBytes(storage.Name);
    }

    // Where the data of the extension are, if they lie in one sector.
    private static int? Find(byte[] cluster, Qcow2Header header, string file)
    {
        var extensions = HeaderExtension.ParseAll(cluster, header, file);
        var index = extensions.FindLastIndex(e => e.Type == HeaderExtensionType.Bitmaps);
        return index >= 0 && extensions[index] is { Data.Length: BitmapsExtension.Size } found
            && found.DataAt.Value / Sizes.SectorBytes == (found.DataAt.Value + BitmapsExtension.Size - 1) / Sizes.SectorBytes
            ? (int)found.DataAt.Value
            : null;
    }

    private static async ValueTask WriteInPlaceAsync(
        Storage storage, HeaderSector header, Checkpoint checkpoint, byte[] cluster, int at, byte[] values)
    {
        if (at < Sizes.SectorBytes)
        {
            for (var i = 0; i < values.Length; i += 8)
            {
                header.Set64(at + i, BinaryPrimitives.ReadUInt64BigEndian(values.AsSpan(i)));
            }

            await checkpoint.WriteHeaderAsync(CancellationToken.None).ConfigureAwait(false);
            return;
        }

        values.CopyTo(cluster, at);
        var sector = at & ~(Sizes.SectorBytes - 1);
        await storage.WriteAsync(new HostOffset(sector), cluster.AsMemory(sector, Sizes.SectorBytes), CancellationToken.None).ConfigureAwait(false);
        await storage.FlushAsync().ConfigureAwait(false);
    }

    private static ValueTask SetAutoclearAsync(HeaderSector header, Checkpoint checkpoint, bool on)
    {
        var flags = header.Header.Autoclear;
        header.Set64(Qcow2Header.AutoclearAt, (ulong)(on ? flags | AutoclearFeatures.Bitmaps : flags & ~AutoclearFeatures.Bitmaps));
        return checkpoint.WriteHeaderAsync(CancellationToken.None);
    }
}
