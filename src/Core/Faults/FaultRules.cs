using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Faults;

/// <summary>The state machine of a <see cref="FaultStorage"/>: events arm rules and change the state, requests are held against the armed rules.</summary>
/// <remarks>
/// As QEMU's <c>blkdebug</c> has it (<c>docs/devel/testing/blkdebug</c>): the state starts at 1; an event that arms any rule disarms those of earlier events; an armed rule stays so
/// until then, or, with <c>once</c>, until it has hit; the state changes after an event's rules were looked at. Thread-safe.
/// </remarks>
public sealed class FaultRules
{
    private readonly Lock _gate = new();
    private readonly IReadOnlyList<FaultRule> _faults;
    private readonly IReadOnlyList<FaultStateRule> _transitions;
    private readonly List<FaultRule> _spent = [];
    private List<FaultRule> _armed = [];

    /// <summary>Rules in the order in which they were given; the event <see cref="StorageEvent.None"/> happens here.</summary>
    public FaultRules(IReadOnlyList<FaultRule> faults, IReadOnlyList<FaultStateRule> transitions)
    {
        _faults = faults;
        _transitions = transitions;
        Happen(StorageEvent.None);
    }

    /// <summary>The state.</summary>
    public int State { get; private set; } = 1;

    /// <summary>An event happens.</summary>
    public void Happen(StorageEvent what)
    {
        lock (_gate)
        {
            List<FaultRule>? armed = null;
            foreach (var rule in _faults)
            {
                if (rule.Event == what && IsNow(rule.State) && !_spent.Contains(rule))
                {
                    (armed ??= []).Insert(0, rule);
                }
            }

            _armed = armed ?? _armed;
            var next = State;
            foreach (var rule in _transitions)
            {
                if (rule.Event == what && IsNow(rule.State) && rule.NewState != 0)
                {
                    next = rule.NewState;
                }
            }

            State = next;
        }
    }

    /// <summary>The rule that makes a request fail, or null.</summary>
    /// <param name="kind">What it is.</param>
    /// <param name="at">Where it starts.</param>
    /// <param name="length">Bytes; 0 for a flush, which touches no sector.</param>
    public FaultRule? Judge(FaultTargets kind, HostOffset at, long length)
    {
        lock (_gate)
        {
            foreach (var rule in _armed)
            {
                if ((rule.Targets & kind) != 0 && (rule.Sector < 0 || Touches(rule.Sector, at.Value, length)))
                {
                    if (rule.Once)
                    {
                        _armed.Remove(rule);
                        _spent.Add(rule);
                    }

                    return rule;
                }
            }

            return null;
        }
    }

    private bool IsNow(int state) => state == 0 || state == State;

    private static bool Touches(long sector, long start, long length)
    {
        var at = sector > long.MaxValue / Sizes.SectorBytes ? long.MaxValue : sector * Sizes.SectorBytes;
        return at >= start && at - start < length;
    }
}
