namespace Platter.Core.Storages;

/// <summary>A promise of the running asynchronous flow: what it does between two requests is short and never blocks.</summary>
/// <remarks>
/// A storage behind a connection may then go on with the flow on the very thread that received its data, and make it wait while data are sent, which saves waking another thread for
/// each request and finds the data in that processor's cache. Whoever promises must neither wait in a blocking way for a request nor hand control to code of others; before it returns to
/// callers that promised nothing, it goes elsewhere (<see cref="Task.Yield"/>). The promise ends where the asynchronous method that gave it ends.
/// </remarks>
public static class InlineCompletions
{
    private static readonly AsyncLocal<bool> s_allowed = new();

    /// <summary>Whether the running flow has promised.</summary>
    public static bool AreAllowed => s_allowed.Value;

    /// <summary>Promises, until the running asynchronous method ends.</summary>
    public static void Allow() => s_allowed.Value = true;
}
