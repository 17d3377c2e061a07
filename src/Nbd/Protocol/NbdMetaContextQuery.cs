using System.Buffers.Binary;
using System.Text;

namespace Platter.Nbd.Protocol;

/// <summary>Data of <see cref="NbdOption.ListMetaContext"/> and <see cref="NbdOption.SetMetaContext"/>.</summary>
/// <remarks>32-bit length of the export's name, the name, 32-bit number of queries; each query a 32-bit length and a string.</remarks>
internal readonly record struct NbdMetaContextQuery(string ExportName, IReadOnlyList<string> Queries)
{
    /// <summary>Queries that one option may hold; more are answered with <see cref="NbdOptionReplyType.ErrTooBig"/>.</summary>
    public const int MaxQueries = 256;

    /// <summary>Parses an option's data.</summary>
    /// <returns><see cref="NbdOptionReplyType.Ack"/>, or the error that the option deserves.</returns>
    public static NbdOptionReplyType Parse(ReadOnlySpan<byte> bytes, out NbdMetaContextQuery query)
    {
        query = default;
        if (!NbdText.TryReadCounted(ref bytes, out var name) || bytes.Length < 4)
        {
            return NbdOptionReplyType.ErrInvalid;
        }

        var count = BinaryPrimitives.ReadUInt32BigEndian(bytes);
        bytes = bytes[4..];

        // A query takes at least the four bytes of its length: the claim is checked before anything is done for it.
        if (count > bytes.Length / NbdText.LengthSize)
        {
            return NbdOptionReplyType.ErrInvalid;
        }

        if (count > MaxQueries)
        {
            return NbdOptionReplyType.ErrTooBig;
        }

        var queries = new string[count];
        for (var i = 0; i < queries.Length; i++)
        {
            if (!NbdText.TryReadCounted(ref bytes, out queries[i]) || queries[i].IndexOf(':', StringComparison.Ordinal) <= 0)
            {
                return NbdOptionReplyType.ErrInvalid;
            }
        }

        query = new(name, queries);
        return bytes.Length == 0 ? NbdOptionReplyType.Ack : NbdOptionReplyType.ErrInvalid;
    }

    /// <summary>The option's data.</summary>
    public byte[] ToArray()
    {
        var size = NbdText.LengthSize + Encoding.UTF8.GetByteCount(ExportName) + 4;
        foreach (var query in Queries)
        {
            size += NbdText.LengthSize + Encoding.UTF8.GetByteCount(query);
        }

        var bytes = new byte[size];
        var at = NbdText.WriteCounted(bytes, ExportName);
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(at), (uint)Queries.Count);
        at += 4;
        foreach (var query in Queries)
        {
            at += NbdText.WriteCounted(bytes.AsSpan(at), query);
        }

        return bytes;
    }
}
