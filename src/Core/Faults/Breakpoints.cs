using Platter.Core.Storages;

namespace Platter.Core.Faults;

/// <summary>Makes requests of a <see cref="FaultStorage"/> wait at events until they are told to go on.</summary>
/// <remarks>Thread-safe. A breakpoint holds one request and is gone then.</remarks>
public sealed class Breakpoints
{
    private readonly Lock _gate = new();
    private readonly List<(StorageEvent Event, string Tag)> _set = [];
    private readonly List<(string Tag, TaskCompletionSource Gate)> _waiting = [];
    private readonly Queue<TaskCompletionSource> _next = [];
    private TaskCompletionSource _changed = NewGate();

    /// <summary>Told in one line when a request stops or goes on.</summary>
    public Action<string> Tell { get; set; } = static _ => { };

    /// <summary>Sets one.</summary>
    /// <param name="what">The event.</param>
    /// <param name="tag">Its name.</param>
    public void Set(StorageEvent what, string tag)
    {
        lock (_gate)
        {
            _set.Add((what, tag));
        }
    }

    /// <summary>Removes those of a name, and lets go what waits at ones that were of this name.</summary>
    /// <returns>False when none was set: a request may have come by already.</returns>
    public bool Remove(string tag)
    {
        bool removed;
        lock (_gate)
        {
            removed = _set.RemoveAll(b => b.Tag == tag) > 0;
        }

        while (Resume(tag))
        {
        }

        return removed;
    }

    /// <summary>Lets a request go on.</summary>
    /// <returns>False when none waits at a breakpoint of this name.</returns>
    public bool Resume(string tag)
    {
        TaskCompletionSource gate;
        lock (_gate)
        {
            var index = _waiting.FindIndex(w => w.Tag == tag);
            if (index < 0)
            {
                return false;
            }

            gate = _waiting[index].Gate;
            _waiting.RemoveAt(index);
        }

        Tell($"Resuming request '{tag}'");
        gate.SetResult();
        return true;
    }

    /// <summary>Waits until a request waits at a breakpoint of this name.</summary>
    public async ValueTask WaitAsync(string tag, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed;
            lock (_gate)
            {
                if (_waiting.Exists(w => w.Tag == tag))
                {
                    return;
                }

                changed = _changed.Task;
            }

            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>An event happens: the next request will wait if a breakpoint says so.</summary>
    internal void Happen(StorageEvent what)
    {
        string tag;
        lock (_gate)
        {
            var index = _set.FindIndex(b => b.Event == what);
            if (index < 0)
            {
                return;
            }

            tag = _set[index].Tag;
            _set.RemoveAt(index);
        }

        // Told before anybody who waits for it goes on.
        Tell($"Suspended request '{tag}'");
        lock (_gate)
        {
            var gate = NewGate();
            _waiting.Add((tag, gate));
            _next.Enqueue(gate);
            _changed.SetResult();
            _changed = NewGate();
        }
    }

    /// <summary>A request comes by.</summary>
    internal ValueTask PassAsync(CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            return _next.TryDequeue(out var gate) ? new(gate.Task.WaitAsync(cancellationToken)) : default;
        }
    }

    private static TaskCompletionSource NewGate() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
