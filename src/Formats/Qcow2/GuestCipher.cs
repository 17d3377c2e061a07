using System.Buffers;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption;

namespace Platter.Formats.Qcow2;

/// <summary>Reads encrypted clusters, and encrypts what will be written. Thread-safe.</summary>
/// <remarks>Spec: section "Data encryption". The old method numbers sectors by guest offset, LUKS by host offset. What the file does not have
/// (a hole, a short tail) is ciphertext of zeros, as for QEMU: only the guest knows whether it ever wrote there.</remarks>
/// <param name="cipher">With its key.</param>
/// <param name="numbersByHost">LUKS.</param>
internal sealed class GuestCipher(SectorCipher cipher, bool numbersByHost)
{
    private const int SectorMask = Sizes.SectorBytes - 1;

    /// <summary>The LUKS header that unlocking read.</summary>
    public LuksHeader? Luks { get; init; }

    /// <summary>Reads guest bytes of an encrypted extent.</summary>
    /// <param name="extent">As the driver returned it, perhaps shortened.</param>
    /// <param name="at">Any alignment, inside the extent.</param>
    /// <param name="buffer">Filled entirely.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    public ValueTask ReadAsync(Extent extent, GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var from = extent.HostOffset + (at - extent.Offset);
        return ((at.Value | (long)buffer.Length) & SectorMask) == 0
            ? ReadSectorsAsync(extent.Storage!, from, at, buffer, cancellationToken)
            : ReadUnalignedAsync(extent.Storage!, from, at, buffer, cancellationToken);
    }

    /// <summary>Encrypts guest bytes in place.</summary>
    /// <param name="at">Where they are on the disk; whole sectors.</param>
    /// <param name="host">Where they will be stored.</param>
    /// <param name="bytes">Whole sectors.</param>
    public void Encrypt(GuestOffset at, HostOffset host, Span<byte> bytes) =>
        cipher.EncryptSectors(bytes, (ulong)((numbersByHost ? host.Value : at.Value) >> Sizes.SectorBits));

    private async ValueTask ReadSectorsAsync(Storage storage, HostOffset from, GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var read = await storage.ReadAsync(from, buffer, cancellationToken).ConfigureAwait(false);
        buffer.Span[read..].Clear();
        cipher.DecryptSectors(buffer.Span, (ulong)((numbersByHost ? from.Value : at.Value) >> Sizes.SectorBits));
    }

    private async ValueTask ReadUnalignedAsync(Storage storage, HostOffset from, GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var before = (int)(at.Value & SectorMask);
        var length = (before + buffer.Length + SectorMask) & ~SectorMask;
        var sectors = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            await ReadSectorsAsync(storage, from + -before, at + -before, sectors.AsMemory(0, length), cancellationToken).ConfigureAwait(false);
            sectors.AsSpan(before, buffer.Length).CopyTo(buffer.Span);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(sectors, clearArray: true);
        }
    }
}
