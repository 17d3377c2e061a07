namespace Platter.Nbd.Server;

/// <summary>The threads, at most so many, that do what would make a connection's own thread wait. Started as they are needed.</summary>
/// <remarks>
/// Not the thread pool: a cold read blocks its thread, and the pool grows too slowly to keep a queue of them going.
/// The queue is bounded by its producers: each connection has a limit of requests in flight.
/// Waking a thread costs more than a small read; where the device is already at work on a whole queue of them, one thread waits for many in
/// turn. A timer adds threads if the first of them takes long, so that one bad sector does not hold up the rest.
/// </remarks>
internal sealed class RequestWorkers : IDisposable
{
    private const int StartedPerWorker = 16;
    private const int RescueMilliseconds = 10;

    private readonly int _limit;
    private readonly object _gate = new();
    private readonly Queue<DeferredRequest> _queue = new();
    private readonly Timer _rescue;
    private bool _rescueArmed;
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
    /// <param name="request">The request.</param>
    /// <param name="started">Whether the device is reading for it already.</param>
    public void Add(DeferredRequest request, bool started)
    {
        lock (_gate)
        {
            _queue.Enqueue(request);
            if (started && _queue.Count <= StartedPerWorker * (_threads - _idle))
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

    private void WakeOne()
    {
        // Threads that were woken but have not taken their request yet still count as idle.
        if (_queue.Count <= _idle)
        {
            Monitor.Pulse(_gate);
        }
        else if (_threads < _limit)
        {
            _threads++;
            new Thread(Work, 512 << 10) { IsBackground = true, Name = "NBD request" }.Start();
        }
        else
        {
            Monitor.Pulse(_gate);
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
            if (_queue.Count > 0)
            {
                WakeOne();
                ArmRescue();
            }
        }
    }

    private void Work()
    {
        while (true)
        {
            DeferredRequest? request;
            lock (_gate)
            {
                _idle++;
                while (!_queue.TryDequeue(out request) && !_stopped)
                {
                    Monitor.Wait(_gate);
                }

                _idle--;
            }

            if (request is null)
            {
                return;
            }

            request.Run();
        }
    }
}
