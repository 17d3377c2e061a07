using Platter.Core.Errors;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>A request that a server has not finished answering: what was asked, what has come, and who waits for it.</summary>
/// <remarks>The sender and the reader loop hold the caller's buffer while bytes of it are under way. A caller that gives up gets it back at once, or when
/// these are through.</remarks>
/// <param name="operation">What is asked.</param>
/// <param name="cookie">Its name on the wire.</param>
/// <param name="inline">Whether who waits for success goes on upon the thread that reads the reply.</param>
internal sealed class NbdPendingRequest(in NbdOperation operation, ulong cookie, bool inline)
{
    private readonly TaskCompletionSource _done = new(inline ? TaskCreationOptions.None : TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private CancellationToken _abandonedBy;
    private bool _abandoned;
    private int _holders;

    /// <summary>What was asked. Its buffers only while held.</summary>
    public NbdOperation Operation { get; } = operation;

    public NbdCommand Command => Operation.Command;

    public ulong Cookie => cookie;

    public long Offset => Operation.Offset;

    public long Length => Operation.Length;

    /// <summary>Whether its reply may fill the buffers between the server and us.</summary>
    public bool HasLongReply => Command is NbdCommand.Read or NbdCommand.BlockStatus;

    /// <summary>What of a read has come.</summary>
    public NbdReadCoverage Coverage { get; } = new();

    /// <summary>What a status request has brought: for each context that was selected, in that order, or null as long as it has not come.</summary>
    public List<NbdStatusDescriptor>?[] Statuses { get; set; } = [];

    /// <summary>The first error of a structured reply; more chunks may follow it.</summary>
    public BlockException? Error { get; set; }

    /// <summary>Completes when the reply is complete, or the connection has failed.</summary>
    public Task Done => _done.Task;

    /// <summary>Claims the caller's buffer.</summary>
    /// <returns>False when the caller has given up: it is not ours any more.</returns>
    public bool Hold()
    {
        lock (_gate)
        {
            _holders += _abandoned ? 0 : 1;
            return !_abandoned;
        }
    }

    /// <summary>Lets go of the caller's buffer.</summary>
    public void LetGo()
    {
        lock (_gate)
        {
            if (--_holders == 0 && _abandoned)
            {
                Cancel(_abandonedBy);
            }
        }
    }

    /// <summary>The caller no longer waits.</summary>
    /// <returns>True when somebody holds the buffer right now.</returns>
    public bool Abandon(CancellationToken by)
    {
        lock (_gate)
        {
            _abandoned = true;
            _abandonedBy = by;
            if (_holders == 0)
            {
                Cancel(by);
            }

            return _holders > 0;
        }
    }

    /// <summary>The reply is complete and good.</summary>
    public void Succeed() => _done.TrySetResult();

    /// <summary>The request has failed, alone or with its connection. Nobody receives into the buffer any more.</summary>
    public void Fail(BlockException error)
    {
        lock (_gate)
        {
            if (_abandoned)
            {
                Cancel(_abandonedBy);
            }
        }

        Elsewhere(() =>
        {
            _done.TrySetException(error);

            // Nobody may be left to look at it.
            _ = _done.Task.Exception;
        });
    }

    private void Cancel(CancellationToken by) => Elsewhere(() => _done.TrySetCanceled(by));

    // Who failed or gave up does not go on inside of whoever made it so.
    private void Elsewhere(Action complete)
    {
        if (inline)
        {
            ThreadPool.UnsafeQueueUserWorkItem(static complete => complete(), complete, preferLocal: false);
        }
        else
        {
            complete();
        }
    }
}
