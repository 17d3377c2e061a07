namespace Platter.Nbd.Server;

/// <summary>The threads, at most so many, that do what would make a connection's own thread wait. Started as they are needed.</summary>
/// <remarks>Not the thread pool: a cold read blocks its thread, and the pool grows too slowly to keep a queue of them going.
/// The queue is bounded by its producers: each connection has a limit of requests in flight.</remarks>
internal sealed class RequestWorkers(int limit)
{
    private readonly object _gate = new();
    private readonly Queue<DeferredRequest> _queue = new();
    private int _idle;
    private int _threads;
    private bool _stopped;

    /// <summary>Hands over a request.</summary>
    public void Add(DeferredRequest request)
    {
        lock (_gate)
        {
            _queue.Enqueue(request);
            if (_queue.Count <= _idle)
            {
                Monitor.Pulse(_gate);
            }
            else if (_threads < limit)
            {
                _threads++;
                new Thread(Work, 512 << 10) { IsBackground = true, Name = "NBD request" }.Start();
            }
        }
    }

    /// <summary>Lets the threads end once the queue is empty.</summary>
    public void Stop()
    {
        lock (_gate)
        {
            _stopped = true;
            Monitor.PulseAll(_gate);
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
