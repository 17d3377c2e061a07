namespace Platter.Nbd.Client;

/// <summary>What a metadata context says of a range.</summary>
/// <param name="Start">Its first byte.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Status">What it means is the context's business: bits of <c>base:allocation</c> (1 hole, 2 zero), 1 for dirty, a depth.</param>
public readonly record struct NbdContextExtent(long Start, long Length, ulong Status);
