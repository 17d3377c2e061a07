namespace Platter.Bench;

/// <summary>Something a benchmark needs failed; the message is for the person who runs it.</summary>
internal sealed class BenchException(string message) : Exception(message);
