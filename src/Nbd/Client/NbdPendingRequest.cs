using Platter.Core.Errors;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>A request that a server has not finished answering: what was asked, what has come, and who waits for it.</summary>
/// <remarks>The reader loop alone calls everything but <see cref="Abandon"/>. A caller that gives up gets its buffer back at once, unless the
/// loop is just receiving into it; then when that chunk is through.</remarks>
internal sealed class NbdPendingRequest(NbdCommand command, ulong cookie, long offset, uint length, Memory<byte> buffer)
{
    private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private CancellationToken _abandonedBy;
    private bool _abandoned;
    private bool _receiving;

    public NbdCommand Command => command;

    public ulong Cookie => cookie;

    public long Offset => offset;

    public uint Length => length;

    /// <summary>Where the data of a read go; only between <see cref="BeginReceiving"/> and <see cref="EndReceiving"/>.</summary>
    public Memory<byte> Buffer => buffer;

    /// <summary>What of a read has come.</summary>
    public NbdReadCoverage Coverage { get; } = new();

    /// <summary>What a status request has brought.</summary>
    public List<NbdStatusDescriptor>? Extents { get; set; }

    /// <summary>The first error of a structured reply; more chunks may follow it.</summary>
    public BlockException? Error { get; set; }

    /// <summary>Completes when the reply is complete, or the connection has failed.</summary>
    public Task Done => _done.Task;

    /// <summary>Claims the buffer.</summary>
    /// <returns>False when the caller has given up: the data must be thrown away.</returns>
    public bool BeginReceiving()
    {
        lock (_gate)
        {
            _receiving = !_abandoned;
            return _receiving;
        }
    }

    /// <summary>Lets go of the buffer.</summary>
    public void EndReceiving()
    {
        lock (_gate)
        {
            _receiving = false;
            if (_abandoned)
            {
                _done.TrySetCanceled(_abandonedBy);
            }
        }
    }

    /// <summary>The caller no longer waits.</summary>
    /// <returns>True when the loop holds the buffer right now.</returns>
    public bool Abandon(CancellationToken by)
    {
        lock (_gate)
        {
            _abandoned = true;
            _abandonedBy = by;
            if (!_receiving)
            {
                _done.TrySetCanceled(by);
            }

            return _receiving;
        }
    }

    /// <summary>The reply is complete and good.</summary>
    public void Succeed() => _done.TrySetResult();

    /// <summary>The request has failed, alone or with its connection.</summary>
    public void Fail(BlockException error)
    {
        EndReceiving();
        _done.TrySetException(error);

        // Nobody may be left to look at it.
        _ = _done.Task.Exception;
    }
}
