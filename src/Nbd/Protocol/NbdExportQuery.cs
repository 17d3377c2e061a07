using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>Which information about an export a client asks for.</summary>
[Flags]
internal enum NbdInfoRequests
{
    None = 0,
    Name = 1,
    Description = 2,
    BlockSize = 4,
}

/// <summary>Data of <see cref="NbdOption.Info"/> and <see cref="NbdOption.Go"/>.</summary>
/// <remarks>32-bit length of the name, the name, 16-bit number of information requests, 16 bits for each.</remarks>
internal readonly record struct NbdExportQuery(string Name, NbdInfoRequests Requests)
{
    /// <summary>Parses an option's data; false if it is malformed. Unknown and repeated requests are ignored.</summary>
    public static bool TryParse(ReadOnlySpan<byte> bytes, out NbdExportQuery query)
    {
        query = default;
        if (!NbdText.TryReadCounted(ref bytes, out var name) || bytes.Length < 2)
        {
            return false;
        }

        var count = BinaryPrimitives.ReadUInt16BigEndian(bytes);
        bytes = bytes[2..];
        if (bytes.Length != count * 2)
        {
            return false;
        }

        var requests = NbdInfoRequests.None;
        for (; bytes.Length > 0; bytes = bytes[2..])
        {
            requests |= (NbdInfoType)BinaryPrimitives.ReadUInt16BigEndian(bytes) switch
            {
                NbdInfoType.Name => NbdInfoRequests.Name,
                NbdInfoType.Description => NbdInfoRequests.Description,
                NbdInfoType.BlockSize => NbdInfoRequests.BlockSize,
                _ => NbdInfoRequests.None,
            };
        }

        query = new(name, requests);
        return true;
    }

    /// <summary>The option's data.</summary>
    public byte[] ToArray()
    {
        var bytes = new byte[NbdText.LengthSize + NbdProtocol.MaxStringBytes + 2 + (3 * 2)];
        var at = NbdText.WriteCounted(bytes, Name);
        var countAt = at;
        at += 2;
        Add(NbdInfoRequests.Name, NbdInfoType.Name, Requests);
        Add(NbdInfoRequests.Description, NbdInfoType.Description, Requests);
        Add(NbdInfoRequests.BlockSize, NbdInfoType.BlockSize, Requests);
        BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan(countAt), (ushort)((at - countAt - 2) / 2));
        return bytes[..at];

        void Add(NbdInfoRequests flag, NbdInfoType type, NbdInfoRequests wanted)
        {
            if ((wanted & flag) != 0)
            {
                BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan(at), (ushort)type);
                at += 2;
            }
        }
    }
}
