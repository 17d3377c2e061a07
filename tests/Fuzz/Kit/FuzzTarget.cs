namespace Platter.Tests.Fuzz;

/// <summary>Something that takes bytes from strangers. Makes inputs from seeds and swallows them.</summary>
public abstract class FuzzTarget
{
    /// <summary>Name in messages, of the folder of findings, and in <c>PLATTER_FUZZ_SEED</c>.</summary>
    public abstract string Name { get; }

    /// <summary>Cases of the bounded run.</summary>
    public abstract int BoundedCases { get; }

    /// <summary>Bytes that swallowing one input may allocate in sum, over all openings, and with what the tests write down.</summary>
    public virtual long MaxAllocatedBytes => 256L << 20;

    /// <summary>What must be installed and is not, or null.</summary>
    public virtual string? Missing => null;

    /// <summary>An input that follows from the random numbers alone.</summary>
    public abstract FuzzInput Make(Random random);

    /// <summary>An input from a committed finding: the bytes of its main file.</summary>
    public abstract FuzzInput FromFinding(byte[] bytes);

    /// <summary>Feeds the input; throws on anything but success or a decent refusal.</summary>
    public abstract ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken);
}
