using System.Buffers;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Server;

/// <summary>A request whose answer may have to wait, or (for a read) the rest of one: everything it needs, away from the connection's thread.</summary>
/// <remarks>Pooled by its connection. The reply is prepared whole before any of it is sent, so that an error is an ordinary reply.</remarks>
internal sealed class DeferredRequest(Transmission owner)
{
    private const int MaxDescriptors = 16384;

    private NbdRequest _request;
    private GuestOffset _from;
    private int _length;
    private byte[] _buffer = [];
    private int _used;

    /// <summary>The whole reply, once it is prepared.</summary>
    public ReadOnlySpan<byte> Reply => _buffer.AsSpan(0, _used);

    /// <summary>Bytes that it counts against the connection's budget.</summary>
    public int Cost { get; private set; }

    /// <summary>Makes it ready to run.</summary>
    /// <param name="request">As received; its range was checked.</param>
    /// <param name="from">Where to start: for a read whose first part was answered, behind that part.</param>
    /// <param name="cost">Bytes of budget that were taken for it.</param>
    public void Begin(in NbdRequest request, GuestOffset from, int cost)
    {
        _request = request;
        _from = from;
        _length = request.Command == NbdCommand.Read ? (int)((long)request.Offset + request.Length - from.Value) : 0;
        _used = 0;
        Cost = cost;
    }

    /// <summary>Prepares the reply on this thread, as far as nothing really suspends, and posts it.</summary>
    public void Run()
    {
        if (!TryFinishNow())
        {
            return;
        }

        owner.Sender.Post(this);
    }

    /// <summary>Prepares the reply; false if that goes on elsewhere and the reply will be posted from there.</summary>
    public bool TryFinishNow()
    {
        var preparing = PrepareAsync();
        if (preparing.IsCompletedSuccessfully)
        {
            return true;
        }

        _ = PostLaterAsync(preparing);
        return false;
    }

    /// <summary>Gives back buffer and budget.</summary>
    public void Release()
    {
        if (_buffer.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = [];
        }

        owner.Release(this);
    }

    private async Task PostLaterAsync(ValueTask preparing)
    {
        await preparing.ConfigureAwait(false);
        owner.Sender.Post(this);
    }

    /// <summary>Never fails: what goes wrong becomes the reply.</summary>
    private async ValueTask PrepareAsync()
    {
        try
        {
            if (owner.Sender.HasFailed)
            {
                return;
            }

            switch (_request.Command)
            {
                case NbdCommand.Read:
                    await ReadAsync().ConfigureAwait(false);
                    break;
                case NbdCommand.BlockStatus:
                    await FindStatusAsync().ConfigureAwait(false);
                    break;
                default:
                    await PrefetchAsync().ConfigureAwait(false);
                    break;
            }
        }
        catch (BlockException e)
        {
            owner.ReportError(_request, e.Message);
            Fail(NbdErrors.ToWire(e.Kind));
        }
        catch (Exception e)
        {
            // A bug of ours in one request must not take the other clients' server away.
            owner.ReportError(_request, $"{e.GetType().Name}: {e.Message}");
            Fail(NbdError.IO);
        }
    }

    private async ValueTask ReadAsync()
    {
        var head = owner.StructuredReplies ? NbdOffsetData.HeadSize : NbdSimpleReply.Size;
        Rent(head + _length);
        await owner.Node.ReadAsync(_from, _buffer.AsMemory(head, _length)).ConfigureAwait(false);
        if (owner.StructuredReplies)
        {
            new NbdOffsetData(_request.Cookie, NbdChunkFlags.Done, (ulong)_from.Value, (uint)_length).WriteTo(_buffer);
        }
        else
        {
            new NbdSimpleReply(NbdError.None, _request.Cookie).WriteTo(_buffer);
        }

        _used = head + _length;
    }

    private async ValueTask FindStatusAsync()
    {
        var limit = (_request.Flags & NbdCommandFlags.RequestOne) != 0 ? 1 : MaxDescriptors;
        Rent(NbdStatusDescriptor.HeadSize + (limit * NbdStatusDescriptor.Size));
        var (at, end) = ((long)_request.Offset, (long)_request.Offset + _request.Length);
        var count = 0;
        var current = default(NbdStatusDescriptor);
        while (at < end)
        {
            var extent = await owner.Node.MapAsync(new(at), end - at, MapDetail.StorageHoles).ConfigureAwait(false);
            var state = StateOf(extent);
            var length = (uint)Math.Min(extent.Length, end - at);
            if (current.Length > 0 && state == current.State)
            {
                current = current with { Length = current.Length + length };
            }
            else
            {
                if (count == limit)
                {
                    break;
                }

                count++;
                current = new(length, state);
            }

            current.WriteTo(_buffer.AsSpan(NbdStatusDescriptor.HeadSize + ((count - 1) * NbdStatusDescriptor.Size)));
            at += length;
        }

        NbdStatusDescriptor.WriteFinalHead(_buffer, _request.Cookie, ServerHandshake.AllocationContextId, count);
        _used = NbdStatusDescriptor.HeadSize + (count * NbdStatusDescriptor.Size);
    }

    private async ValueTask PrefetchAsync()
    {
        var (at, end) = ((long)_request.Offset, (long)_request.Offset + _request.Length);
        while (at < end && !owner.Sender.HasFailed)
        {
            var extent = await owner.Node.MapAsync(new(at), end - at).ConfigureAwait(false);
            if (extent.Kind == ExtentKind.Data)
            {
                extent.Storage!.Prefetch(extent.HostOffset, Math.Min(extent.Length, end - at));
            }

            at += extent.Length;
        }

        Rent(NbdSimpleReply.Size);
        _used = ReplyWriter.WriteSimple(_buffer, NbdError.None, _request.Cookie);
    }

    private void Fail(NbdError error)
    {
        Rent(ReplyWriter.MaxErrorBytes);
        _used = ReplyWriter.WriteError(_buffer, _request, error, owner.StructuredReplies);
    }

    private void Rent(int size)
    {
        if (_buffer.Length < size)
        {
            if (_buffer.Length > 0)
            {
                ArrayPool<byte>.Shared.Return(_buffer);
            }

            _buffer = ArrayPool<byte>.Shared.Rent(size);
        }
    }

    // What map says in words: data false is a hole; allocated bytes that read as zeros are only "zero".
    private static NbdBlockState StateOf(in Extent extent) =>
        extent.Kind is ExtentKind.Zero or ExtentKind.Unallocated ? NbdBlockState.Hole | NbdBlockState.Zero
        : (extent.Flags & ExtentFlags.StorageHole) != 0 ? NbdBlockState.Zero
        : NbdBlockState.Data;
}
