using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Nbd.Protocol;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>The parsers of NBD's structures, without a socket: whatever the bytes, they answer and never throw.</summary>
internal sealed class NbdWireTarget : FuzzTarget
{
    public override string Name => "nbd-wire";

    public override int BoundedCases => 8_000;

    public override FuzzInput Make(Random random)
    {
        var bytes = NbdClientBytes.Make(random, 6, 1 << 20);
        var from = random.Next(3) == 0 ? random.Next(bytes.Length + 1) : Math.Min(bytes.Length, 4);
        return new FuzzInput("bytes", SparseBytes.From(bytes.AsSpan(from)));
    }

    public override FuzzInput FromFinding(byte[] bytes) => new("bytes", SparseBytes.From(bytes));

    public override ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken)
    {
        var bytes = input.MainBytes.ToArray();
        for (var at = 0; at < Math.Min(bytes.Length, 40); at += 4)
        {
            Feed(bytes.AsSpan(at));
        }

        return ValueTask.CompletedTask;
    }

    // Structures of a fixed size are parsed by callers who have read that many bytes; the others judge the length themselves.
    private static void Feed(ReadOnlySpan<byte> bytes)
    {
        if (NbdExportQuery.TryParse(bytes, out var export) && !NbdText.IsValid(export.Name))
        {
            throw new FuzzException("an export's name was taken that the protocol cannot carry");
        }

        if (NbdMetaContextQuery.Parse(bytes, out var query) == NbdOptionReplyType.Ack
            && (!NbdText.IsValid(query.ExportName) || query.Queries.Count > NbdMetaContextQuery.MaxQueries || !query.Queries.All(NbdText.IsValid)))
        {
            throw new FuzzException("a query was taken that the protocol cannot carry");
        }

        NbdText.TryRead(bytes, out _);
        var rest = bytes;
        NbdText.TryReadCounted(ref rest, out _);
        foreach (var type in Enum.GetValues<NbdChunkType>())
        {
            if (NbdErrorChunk.TryParse(bytes, type, out var chunk))
            {
                _ = NbdErrors.Describe(chunk.Error);
                Demand(NbdErrors.FromWire(chunk.Error));
            }
        }

        if (bytes.Length >= NbdRequest.CompactSize)
        {
            NbdRequest.TryParse(bytes[..NbdRequest.CompactSize], NbdHeaderStyle.Structured, out _);
        }

        if (bytes.Length >= NbdOptionHeader.Size)
        {
            NbdOptionHeader.TryParse(bytes[..NbdOptionHeader.Size], out _);
        }

        if (bytes.Length >= NbdOptionReplyHeader.Size)
        {
            NbdOptionReplyHeader.TryParse(bytes[..NbdOptionReplyHeader.Size], out _);
        }

        if (bytes.Length >= 4)
        {
            Demand(NbdErrors.FromWire((NbdError)BinaryPrimitives.ReadUInt32BigEndian(bytes)));
        }
    }

    private static void Demand(BlockErrorKind kind)
    {
        if (!Enum.IsDefined(kind))
        {
            throw new FuzzException($"kind {kind} does not exist");
        }
    }
}
