using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>What a server has acknowledged and not made durable yet, so that a server that lost it can be told again.</summary>
/// <remarks>In the order of the acknowledgements. Two changes of one place that were under way together may be in either order here, as they may be on the server.
/// Thread-safe.</remarks>
internal sealed class NbdWriteLog
{
    /// <summary>More than this, in bytes, is flushed before anything is added.</summary>
    public const long MaxBytes = 64L << 20;

    // What an entry costs besides its data.
    private const int EntryBytes = 128;

    private readonly Lock _gate = new();
    private readonly Queue<NbdOperation> _entries = new();
    private long _bytes;
    private long _added;

    /// <summary>Whether a flush is due.</summary>
    public bool IsFull
    {
        get
        {
            lock (_gate)
            {
                return _bytes > MaxBytes;
            }
        }
    }

    /// <summary>How many were added up to now: what a flush that begins now will have made durable.</summary>
    public long Mark
    {
        get
        {
            lock (_gate)
            {
                return _added;
            }
        }
    }

    /// <summary>Notes a change that was acknowledged; its data are copied.</summary>
    public void Add(in NbdOperation operation)
    {
        var copy = operation with { Payload = operation.Payload.ToArray() };
        lock (_gate)
        {
            _entries.Enqueue(copy);
            _bytes += CostOf(copy);
            _added++;
        }
    }

    /// <summary>Forgets what was added before a mark: a flush that began then has succeeded.</summary>
    public void Forget(long mark)
    {
        lock (_gate)
        {
            for (var rest = _entries.Count - (_added - mark); rest > 0; rest--)
            {
                _bytes -= CostOf(_entries.Dequeue());
            }
        }
    }

    /// <summary>All of it, oldest first.</summary>
    public NbdOperation[] ToArray()
    {
        lock (_gate)
        {
            return [.. _entries];
        }
    }

    /// <summary>Whether an operation changes the export without being durable when it ends.</summary>
    public static bool Concerns(in NbdOperation operation) =>
        operation.Command is NbdCommand.Write or NbdCommand.WriteZeroes or NbdCommand.Trim && (operation.Flags & NbdCommandFlags.Fua) == 0;

    private static long CostOf(in NbdOperation operation) => EntryBytes + operation.Payload.Length;
}
