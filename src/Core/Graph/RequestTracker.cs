namespace Platter.Core.Graph;

/// <summary>Keeps requests apart that must not meet: holds ranges of a disk, shared or exclusively, in the order of arrival.</summary>
/// <remarks>
/// A request waits for every earlier one that overlaps it, unless both are shared; it never waits for others, and later ones cannot overtake it, so nobody
/// starves. There are few requests at a time (a server's queue depth), so a list is faster than a tree. Thread-safe.
/// </remarks>
public sealed class RequestTracker
{
    private readonly Lock _gate = new();
    private readonly List<Request> _requests = [];
    private readonly Stack<Request> _spare = new();

    /// <summary>Requests that hold or await a range now.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _requests.Count;
            }
        }
    }

    /// <summary>Holds a range, waiting for earlier requests in its way.</summary>
    /// <param name="start">First byte.</param>
    /// <param name="end">Behind the last byte.</param>
    /// <param name="exclusive">Against readers as well.</param>
    /// <param name="cancellationToken">Gives up waiting.</param>
    /// <returns>Ends the hold when disposed.</returns>
    public ValueTask<Hold> EnterAsync(long start, long end, bool exclusive, CancellationToken cancellationToken = default)
    {
        Request request;
        lock (_gate)
        {
            if (!_spare.TryPop(out request!))
            {
                request = new Request();
            }

            (request.Start, request.End, request.Exclusive, request.Blockers, request.Ready) = (start, end, exclusive, 0, null);
            foreach (var earlier in _requests)
            {
                request.Blockers += request.Conflicts(earlier) ? 1 : 0;
            }

            _requests.Add(request);
            if (request.Blockers == 0)
            {
                return new(new Hold(this, request));
            }

            request.Ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        return WaitAsync(request, cancellationToken);
    }

    private async ValueTask<Hold> WaitAsync(Request request, CancellationToken cancellationToken)
    {
        var ready = request.Ready!;
        await using (cancellationToken.UnsafeRegister(static (state, token) => ((TaskCompletionSource)state!).TrySetCanceled(token), ready).ConfigureAwait(false))
        {
            try
            {
                await ready.Task.ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                Leave(request);
                throw;
            }
        }

        return new Hold(this, request);
    }

    private void Leave(Request request)
    {
        lock (_gate)
        {
            var index = _requests.IndexOf(request);
            for (var i = index + 1; i < _requests.Count; i++)
            {
                var later = _requests[i];
                if (later.Conflicts(request) && --later.Blockers == 0)
                {
                    later.Ready!.TrySetResult();
                }
            }

            _requests.RemoveAt(index);
            request.Ready = null;
            _spare.Push(request);
        }
    }

    /// <summary>A held range. Dispose it exactly once.</summary>
    public readonly struct Hold : IDisposable
    {
        private readonly RequestTracker _tracker;
        private readonly Request _request;

        internal Hold(RequestTracker tracker, Request request)
        {
            _tracker = tracker;
            _request = request;
        }

        /// <summary>Ends the hold; those who waited for it go on.</summary>
        public void Dispose() => _tracker?.Leave(_request);
    }

    internal sealed class Request
    {
        public long Start { get; set; }

        public long End { get; set; }

        public bool Exclusive { get; set; }

        public int Blockers { get; set; }

        public TaskCompletionSource? Ready { get; set; }

        public bool Conflicts(Request other) => (Exclusive || other.Exclusive) && Start < other.End && other.Start < End;
    }
}
