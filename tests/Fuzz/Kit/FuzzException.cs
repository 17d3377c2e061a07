namespace Platter.Tests.Fuzz;

/// <summary>The oracle is not content.</summary>
public sealed class FuzzException(string message, Exception? inner = null) : Exception(message, inner);
