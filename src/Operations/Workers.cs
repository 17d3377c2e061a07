namespace Platter.Operations;

/// <summary>Waiting for workers that stop each other when one fails.</summary>
internal static class Workers
{
    /// <summary>Waits for all. The error that started it is what the caller must see, not the cancellation it caused in the other workers.</summary>
    public static async Task WhenAllFirstErrorAsync(Task[] workers, CancellationToken cancellationToken)
    {
        try
        {
            await Task.WhenAll(workers).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            foreach (var worker in workers)
            {
                if (worker.Exception?.InnerExceptions.FirstOrDefault(e => e is not OperationCanceledException) is { } cause)
                {
                    System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(cause);
                }
            }

            throw;
        }
    }
}
