using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>An operation that the power may be cut in: the files it starts from, what is done, and what must be true of every state that can be left.</summary>
/// <remarks>
/// Everything must follow from the random numbers it is given, so that a seed shows the same again. Most scenarios override <see cref="Prepare"/> and <see cref="RunAsync"/> and are done: the
/// promises that hold for every operation are checked anyway (<see cref="CrashVerifier"/>).
/// </remarks>
internal abstract class CrashScenario
{
    /// <summary>Short, with dashes: it is the first half of a seed.</summary>
    public abstract string Name { get; }

    /// <summary>The row of the table in docs/reliability.md.</summary>
    public abstract string Operation { get; }

    /// <summary>Every state of every trace is tried (up to <see cref="ExhaustiveBound"/> at each flush), not samples.</summary>
    public virtual bool IsExhaustive => false;

    /// <summary>Most states at one flush of a trace, when they are enumerated.</summary>
    public virtual int ExhaustiveBound => 600;

    /// <summary>Requests to the disk take their time, so that those of several threads meet. What they do then differs from run to run.</summary>
    public virtual bool IsSlow => false;

    /// <summary>How many seeds the bounded run takes.</summary>
    public virtual int BoundedSeeds => 2;

    /// <summary>How many states are sampled from each seed's trace.</summary>
    public virtual int SampledStates => 150;

    /// <summary>The files before the operation, and what a guest reads from them.</summary>
    public abstract CrashImage Prepare(Random random);

    /// <summary>The operation: through <see cref="CrashRun.OpenAsync"/> as a guest, or on <see cref="CrashRun.Storages"/> as a tool.</summary>
    public abstract Task RunAsync(CrashRun run);

    /// <summary>What must be true of a state. Overridden to demand more (first or afterwards), or something else.</summary>
    public virtual Task VerifyAsync(CrashVerifier verifier) => verifier.VerifyAsync();
}
