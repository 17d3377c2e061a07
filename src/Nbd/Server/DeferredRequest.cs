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
    // Zeros and discards are done in pieces of this size, so that a client that has gone does not keep a disk busy.
    private const long PieceBytes = 1L << 30;

    // The kernel reads ahead all it is told to before it returns.
    private const long PrefetchBytes = 32L << 20;

    private readonly byte[] _short = new byte[ReplyWriter.MaxErrorBytes];
    private NbdRequest _request;
    private GuestOffset _from;
    private int _length;
    private IReadOnlyList<uint>? _contexts;

    // A write's payload, or a reply that is longer than a short one.
    private byte[] _buffer = [];
    private bool _isShort;
    private int _used;

    /// <summary>The whole reply, once it is prepared.</summary>
    public ReadOnlySpan<byte> Reply => (_isShort ? _short : _buffer).AsSpan(0, _used);

    /// <summary>Bytes that it counts against the connection's budget.</summary>
    public int Cost { get; private set; }

    /// <summary>Whether they are of what all clients share.</summary>
    public bool IsBorrowed { get; private set; }

    /// <summary>Says what was taken for it.</summary>
    public void Take(int cost, bool borrowed) => (Cost, IsBorrowed) = (cost, borrowed);

    /// <summary>Makes it ready to run.</summary>
    /// <param name="request">As received; its range was checked.</param>
    /// <param name="from">Where to start: for a read whose first part was answered, behind that part.</param>
    /// <param name="contexts">Ids that a block status is to tell of; null for all that were agreed.</param>
    public void Begin(in NbdRequest request, GuestOffset from, IReadOnlyList<uint>? contexts = null)
    {
        _request = request;
        _from = from;
        _length = request.Command switch
        {
            NbdCommand.Read => (int)((long)request.Offset + (long)request.Length - from.Value),
            NbdCommand.Write => (int)request.Length,
            _ => 0,
        };
        _contexts = contexts;
        _used = 0;
    }

    /// <summary>Where the payload of a write goes before it runs.</summary>
    public Span<byte> RentPayload(int length)
    {
        Rent(length);
        return _buffer.AsSpan(0, length);
    }

    /// <summary>Prepares the reply on this thread, as far as nothing really suspends, and posts it.</summary>
    public void Run()
    {
        if (TryFinishNow())
        {
            owner.Sender.Post(this);
        }
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
        ReturnBuffer();
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
            if (owner.Sender.HasFailed && _request.Command is NbdCommand.Read or NbdCommand.BlockStatus or NbdCommand.Cache)
            {
                return;
            }

            switch (_request.Command)
            {
                case NbdCommand.Read:
                    await ReadAsync().ConfigureAwait(false);
                    return;
                case NbdCommand.BlockStatus:
                    await FindStatusAsync().ConfigureAwait(false);
                    return;
                case NbdCommand.Write:
                    await WriteAsync().ConfigureAwait(false);
                    break;
                case NbdCommand.WriteZeroes:
                    await ZeroAsync().ConfigureAwait(false);
                    break;
                case NbdCommand.Trim:
                    await DiscardAsync().ConfigureAwait(false);
                    break;
                case NbdCommand.Flush:
                    await owner.Node.FlushAsync().ConfigureAwait(false);
                    break;
                default:
                    await PrefetchAsync().ConfigureAwait(false);
                    break;
            }

            _isShort = true;
            _used = ReplyWriter.WriteSuccess(_short, _request, owner.Style);
        }
        catch (BlockException e)
        {
            var fast = (_request.Flags & NbdCommandFlags.FastZero) != 0 && e.Kind == BlockErrorKind.Unsupported;
            if (!fast)
            {
                owner.ReportError(_request, e.Message);
            }

            Fail(fast ? NbdError.NotSup : NbdErrors.ToWire(e.Kind));
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
        var head = owner.Style == NbdHeaderStyle.Simple ? NbdSimpleReply.Size : NbdOffsetData.HeadSizeOf(owner.Style);
        Rent(head + _length);
        await owner.Node.ReadAsync(_from, _buffer.AsMemory(head, _length)).ConfigureAwait(false);
        if (owner.Style == NbdHeaderStyle.Simple)
        {
            new NbdSimpleReply(NbdError.None, _request.Cookie).WriteTo(_buffer);
        }
        else
        {
            new NbdOffsetData(_request.Cookie, _request.Offset, NbdChunkFlags.Done, (ulong)_from.Value, (uint)_length).WriteTo(_buffer, owner.Style);
        }

        _isShort = false;
        _used = head + _length;
    }

    private ValueTask WriteAsync()
    {
        var bytes = _buffer.AsMemory(0, _length);
        if (owner.Export.DetectZeroes != NbdZeroDetection.Off && !bytes.Span.ContainsAnyExcept((byte)0))
        {
            return owner.Node.WriteZeroesAsync(
                _from, _length, Durability() | (owner.Export.DetectZeroes == NbdZeroDetection.Unmap && owner.Export.Unmaps ? WriteFlags.MayUnmap : WriteFlags.None));
        }

        return owner.Node.WriteAsync(_from, bytes, Durability());
    }

    private async ValueTask ZeroAsync()
    {
        var flags = ((_request.Flags & NbdCommandFlags.NoHole) == 0 && owner.Export.Unmaps ? WriteFlags.MayUnmap : WriteFlags.None)
            | ((_request.Flags & NbdCommandFlags.FastZero) != 0 ? WriteFlags.NoFallback : WriteFlags.None);
        var (at, end) = ((long)_request.Offset, (long)(_request.Offset + _request.Length));
        for (long length; at < end; at += length)
        {
            // What is short is done in any case: a client may disconnect in order and close at once.
            ThrowIfGone(at > (long)_request.Offset);
            length = Math.Min(PieceBytes, end - at);
            await owner.Node.WriteZeroesAsync(new(at), length, flags).ConfigureAwait(false);
        }

        await FlushIfDurableAsync().ConfigureAwait(false);
    }

    private async ValueTask DiscardAsync()
    {
        if (!owner.Export.Unmaps)
        {
            return;
        }

        var (at, end) = ((long)_request.Offset, (long)(_request.Offset + _request.Length));
        for (long length; at < end; at += length)
        {
            // What is short is done in any case: a client may disconnect in order and close at once.
            ThrowIfGone(at > (long)_request.Offset);
            length = Math.Min(PieceBytes, end - at);
            await owner.Node.DiscardAsync(new(at), length).ConfigureAwait(false);
        }

        await FlushIfDurableAsync().ConfigureAwait(false);
    }

    // FUA covers the whole range, not its last piece.
    private ValueTask FlushIfDurableAsync() => Durability() == WriteFlags.None ? ValueTask.CompletedTask : owner.Node.FlushAsync();

    private async ValueTask FindStatusAsync()
    {
        var contexts = _contexts ?? owner.Contexts;
        var status = new StatusReply(owner, _request, contexts.Count);
        for (var i = 0; i < contexts.Count; i++)
        {
            await status.AddAsync(contexts[i], isLast: i == contexts.Count - 1).ConfigureAwait(false);
        }

        Rent(status.Bytes.Length);
        status.Bytes.CopyTo(_buffer);
        _isShort = false;
        _used = status.Bytes.Length;
    }

    private async ValueTask PrefetchAsync()
    {
        var (at, end) = ((long)_request.Offset, (long)(_request.Offset + _request.Length));
        while (at < end)
        {
            // Nobody would read what comes now.
            ThrowIfGone(true);
            var extent = await owner.Node.MapAsync(new(at), end - at).ConfigureAwait(false);
            var length = extent.Length;
            if (extent.Kind == ExtentKind.Data)
            {
                length = Math.Min(length, PrefetchBytes);
                extent.Storage!.Prefetch(extent.HostOffset, length);
            }

            at += length;
        }
    }

    private WriteFlags Durability() =>
        ((_request.Flags & NbdCommandFlags.Fua) != 0 || owner.Export.WritesThrough) && !owner.Export.IgnoresFlush ? WriteFlags.ForceUnitAccess : WriteFlags.None;

    private void ThrowIfGone(bool begun)
    {
        if (begun && owner.IsGone)
        {
            throw new BlockException(BlockErrorKind.Protocol, "the client has gone");
        }
    }

    private void Fail(NbdError error)
    {
        _isShort = true;
        _used = ReplyWriter.WriteError(_short, _request, error, owner.Style);
    }

    private void Rent(int size)
    {
        if (_buffer.Length < size)
        {
            ReturnBuffer();
            _buffer = size < RequestMemory.SmallestBuffer ? ArrayPool<byte>.Shared.Rent(size) : owner.Memory.Rent(size);
        }
    }

    private void ReturnBuffer()
    {
        if (_buffer.Length >= RequestMemory.SmallestBuffer)
        {
            owner.Memory.Return(_buffer);
        }
        else if (_buffer.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
        }

        _buffer = [];
    }
}
