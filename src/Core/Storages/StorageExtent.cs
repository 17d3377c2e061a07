namespace Platter.Core.Storages;

/// <summary>What a storage knows of a range without reading it.</summary>
/// <param name="Length">Bytes from the queried offset that share this status; at least 1, never more than was asked for.</param>
/// <param name="IsAllocated">The host spends space on it (false for a hole).</param>
/// <param name="ReadsZero">It certainly reads as zeros. False means "unknown".</param>
public readonly record struct StorageExtent(long Length, bool IsAllocated, bool ReadsZero);
