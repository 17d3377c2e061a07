using Platter.Cli.Options;

namespace Platter.Cli.Commands;

/// <summary>Opens what is to be served and serves it until a signal or, if so asked, until the last client has gone.</summary>
internal static class ServeRunner
{
    /// <summary>Serves.</summary>
    /// <returns>The exit code: a signal is the ordinary end, and 0.</returns>
    public static async ValueTask<int> RunAsync(Session session, ServeSettings settings, ImageArguments images)
    {
        var stop = session.WatchInterrupts();
        var disk = await images.OpenAsync(settings.Image, null, stop).ConfigureAwait(false);
        await using var closing = disk.ConfigureAwait(false);
        if (settings.Offset > disk.Size)
        {
            throw new UsageException($"Invalid offset '{settings.Offset}': the disk has {disk.Size} bytes");
        }

        throw new UsageException("serving is not in this build yet");
    }
}
