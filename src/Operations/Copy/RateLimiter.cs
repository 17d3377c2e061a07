using System.Diagnostics;

namespace Platter.Operations.Copy;

/// <summary>Lets so many bytes per second pass; shared by all workers of a copy.</summary>
internal sealed class RateLimiter(long bytesPerSecond)
{
    private readonly Lock _gate = new();
    private readonly long _start = Stopwatch.GetTimestamp();
    private long _taken;

    /// <summary>Waits until <paramref name="bytes"/> more are allowed.</summary>
    public async ValueTask TakeAsync(int bytes, CancellationToken cancellationToken)
    {
        double due;
        lock (_gate)
        {
            due = (double)_taken / bytesPerSecond;
            _taken += bytes;
        }

        var wait = TimeSpan.FromSeconds(due) - Stopwatch.GetElapsedTime(_start);
        if (wait > TimeSpan.Zero)
        {
            await Task.Delay(wait, cancellationToken).ConfigureAwait(false);
        }
    }
}
