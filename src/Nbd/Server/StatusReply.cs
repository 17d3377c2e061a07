using System.Buffers;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Server;

/// <summary>The chunks of a block status reply, one for each context, put together in memory.</summary>
internal sealed class StatusReply(Transmission owner, NbdRequest request, int contexts)
{
    // Of one context alone; several share it, but for a decent minimum as long as there are not very many.
    private const int MaxDescriptors = 16384;
    private const int MinDescriptors = 1024;
    private const int MaxDescriptorsOfAll = 65536;

    // Neighbours of one state are one descriptor, so that a few of them may take any number of questions.
    private const int MaxQuestions = 1 << 16;

    private readonly ArrayBufferWriter<byte> _bytes = new(256);
    private readonly int _limit = LimitOf(request, contexts);
    private readonly List<NbdStatusDescriptor> _descriptors = [];

    /// <summary>What there is so far.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes.WrittenSpan;

    /// <summary>How large a reply may become.</summary>
    public static int MaxBytes(in NbdRequest request, int contexts)
    {
        const NbdHeaderStyle Largest = NbdHeaderStyle.Extended;
        return contexts * (NbdStatusDescriptor.HeadSizeOf(Largest) + (LimitOf(request, contexts) * NbdStatusDescriptor.SizeOf(Largest)));
    }

    /// <summary>Adds the chunk of one context.</summary>
    public async ValueTask AddAsync(uint context, bool isLast)
    {
        _descriptors.Clear();
        var (at, end) = ((long)request.Offset, (long)(request.Offset + request.Length));
        for (var questions = 0; at < end && questions < MaxQuestions; questions++)
        {
            var (status, length) = await FindAsync(context, at, end).ConfigureAwait(false);
            if (!TryAdd(status, length))
            {
                break;
            }

            at += length;
        }

        Write(context, isLast ? NbdChunkFlags.Done : NbdChunkFlags.None);
    }

    private static int LimitOf(in NbdRequest request, int contexts) =>
        (request.Flags & NbdCommandFlags.RequestOne) != 0 ? 1
        : Math.Max(1, Math.Min(Math.Max(MaxDescriptors / contexts, MinDescriptors), MaxDescriptorsOfAll / contexts));

    private async ValueTask<(ulong Status, long Length)> FindAsync(uint context, long at, long end)
    {
        if (context >= MetaContexts.FirstBitmap)
        {
            var (dirty, length) = owner.Export.Bitmaps[(int)(context - MetaContexts.FirstBitmap)].Find(at, end);
            return (dirty ? 1u : 0, length);
        }

        var detail = context == MetaContexts.Allocation ? MapDetail.StorageHoles : MapDetail.Metadata;
        var extent = await owner.Node.MapAsync(new(at), end - at, detail).ConfigureAwait(false);
        var status = context == MetaContexts.Allocation ? (ulong)StateOf(extent) : extent.Kind == ExtentKind.Unallocated ? 0 : (ulong)extent.Depth + 1;
        return (status, Math.Min(extent.Length, end - at));
    }

    /// <summary>Adds a range; false when there is no room for another descriptor.</summary>
    private bool TryAdd(ulong status, long length)
    {
        if (_descriptors.Count > 0 && _descriptors[^1] is var last && last.Status == status)
        {
            _descriptors[^1] = last with { Length = last.Length + (ulong)length };
            return true;
        }

        if (_descriptors.Count == _limit)
        {
            return false;
        }

        _descriptors.Add(new((ulong)length, status));
        return true;
    }

    private void Write(uint context, NbdChunkFlags flags)
    {
        var head = NbdStatusDescriptor.HeadSizeOf(owner.Style);
        var size = NbdStatusDescriptor.SizeOf(owner.Style);
        var span = _bytes.GetSpan(head + (_descriptors.Count * size));
        NbdStatusDescriptor.WriteHead(span, owner.Style, request, flags, context, _descriptors.Count);
        for (var i = 0; i < _descriptors.Count; i++)
        {
            _descriptors[i].WriteTo(span[(head + (i * size))..], owner.Style);
        }

        _bytes.Advance(head + (_descriptors.Count * size));
    }

    // What map says in words: data false is a hole; allocated bytes that read as zeros are only "zero".
    private static NbdBlockState StateOf(in Extent extent) =>
        extent.Kind is ExtentKind.Zero or ExtentKind.Unallocated ? NbdBlockState.Hole | NbdBlockState.Zero
        : (extent.Flags & ExtentFlags.StorageHole) != 0 ? NbdBlockState.Zero
        : NbdBlockState.Data;
}
