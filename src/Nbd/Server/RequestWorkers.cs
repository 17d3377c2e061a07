namespace Platter.Nbd.Server;

/// <summary>The threads, at most so many, that do what would make a connection's own thread wait. Started as they are needed.</summary>
/// <remarks>
/// Not the thread pool: a cold read blocks its thread, and the pool grows too slowly to keep a queue of them going.
/// The queue is bounded by its producers: each connection has a limit of requests in flight.
/// Waking a thread costs more than a small read; where the device is already at work on a whole queue of them, one thread waits for many in
/// turn. A timer adds threads if the first of them takes long, so that one bad sector does not hold up the rest.
/// <para>Clients take turns: each has a <see cref="Line"/>, and a thread that is free takes one request of the next line. No line with requests is ever without a
/// thread: who does the only running request of a line goes on with that line, and where all threads work for others a further one is started. So nobody waits for
/// what another client has begun, not even for ever. There are as many threads more, at most, as there are clients.</para>
/// </remarks>
internal sealed class RequestWorkers : IDisposable
{
    private const int StartedPerWorker = 16;
    private const int RescueMilliseconds = 10;

    private readonly int _limit;
    private readonly object _gate = new();
    private readonly Queue<Line> _lines = new();
    private readonly Timer _rescue;
    private bool _rescueArmed;
    private int _queued;
    private int _idle;
    private int _threads;
    private bool _stopped;

    /// <summary>Makes a pool without threads yet.</summary>
    /// <param name="limit">Threads at most.</param>
    public RequestWorkers(int limit)
    {
        _limit = limit;
        _rescue = new Timer(static state => ((RequestWorkers)state!).Rescue(), this, Timeout.Infinite, Timeout.Infinite);
    }

    /// <summary>Hands over a request.</summary>
    /// <param name="line">Whose it is.</param>
    /// <param name="request">The request.</param>
    /// <param name="started">Whether the device is reading for it already.</param>
    public void Add(Line line, DeferredRequest request, bool started)
    {
        lock (_gate)
        {
            line.Requests.Enqueue(request);
            _queued++;
            if (!line.IsQueued)
            {
                line.IsQueued = true;
                _lines.Enqueue(line);
            }

            if (IsLeftAlone(line))
            {
                StartThread(line);
            }
            else if (started && _queued <= StartedPerWorker * (_threads - _idle))
            {
                ArmRescue();
            }
            else
            {
                WakeOne();
            }
        }
    }

    /// <summary>Lets the threads end once the queue is empty.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _stopped = true;
            Monitor.PulseAll(_gate);
        }

        _rescue.Dispose();
    }

    // Threads that were woken but have not taken their request yet still count as idle.
    private bool IsLeftAlone(Line line) => line.Running == 0 && line.Requests.Count > 0 && _threads >= _limit && _queued > _idle;

    private void WakeOne()
    {
        if (_queued > _idle && _threads < _limit)
        {
            StartThread(null);
        }
        else
        {
            Monitor.Pulse(_gate);
        }
    }

    private void StartThread(Line? first)
    {
        _threads++;
        if (first is not null)
        {
            // From now on somebody works for it.
            first.Running++;
        }

        try
        {
            new Thread(() => Work(first), 512 << 10) { IsBackground = true, Name = "NBD request" }.Start();
        }
        catch (OutOfMemoryException)
        {
            // The host has no thread left: what is queued waits for those there are, or until it has one.
            _threads--;
            _ = first is not null ? first.Running-- : 0;
            ArmRescue();
        }
    }

    private void ArmRescue()
    {
        if (!_rescueArmed && !_stopped)
        {
            _rescueArmed = true;
            _rescue.Change(RescueMilliseconds, Timeout.Infinite);
        }
    }

    private void Rescue()
    {
        lock (_gate)
        {
            _rescueArmed = false;
            if (_queued > 0)
            {
                WakeOne();
                foreach (var line in _lines)
                {
                    if (IsLeftAlone(line))
                    {
                        StartThread(line);
                    }
                }

                ArmRescue();
            }
        }
    }

    /// <param name="line">Whom this thread works for, counted already; null for nobody yet.</param>
    private void Work(Line? line)
    {
        while (true)
        {
            DeferredRequest? request;
            lock (_gate)
            {
                if (line is not null && (line.Running > 1 || line.Requests.Count == 0))
                {
                    line.Running--;
                    line = null;
                }

                if (line is null)
                {
                    if (_threads > _limit || !WaitForWork())
                    {
                        _threads--;
                        return;
                    }

                    line = NextLine();
                    line.Running++;
                }

                request = line.Requests.Dequeue();
                _queued--;
            }

            request.Run();
        }
    }

    /// <summary>Waits until something is queued; false when the threads are to end.</summary>
    private bool WaitForWork()
    {
        _idle++;
        while (_queued == 0 && !_stopped)
        {
            Monitor.Wait(_gate);
        }

        _idle--;
        return _queued > 0;
    }

    /// <summary>The line whose turn it is. There is one that has requests.</summary>
    private Line NextLine()
    {
        while (true)
        {
            var line = _lines.Dequeue();
            if (line.Requests.Count > 1)
            {
                _lines.Enqueue(line);
            }
            else
            {
                line.IsQueued = false;
            }

            if (line.Requests.Count > 0)
            {
                return line;
            }
        }
    }

    /// <summary>The requests of one client that wait for a thread. Only <see cref="RequestWorkers"/> looks into it, and guards it.</summary>
    public sealed class Line
    {
        /// <summary>What waits, the oldest first.</summary>
        internal Queue<DeferredRequest> Requests { get; } = new();

        /// <summary>Threads that work for this client.</summary>
        internal int Running { get; set; }

        /// <summary>Whether it stands in the queue of lines; one without requests may do so, too.</summary>
        internal bool IsQueued { get; set; }
    }
}
