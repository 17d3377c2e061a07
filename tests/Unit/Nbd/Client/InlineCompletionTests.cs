using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>Which thread a caller goes on upon.</summary>
public sealed class InlineCompletionTests
{
    private const string ReaderName = "NBD client";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Who_promised_nothing_does_not_go_on_upon_the_thread_that_receives()
    {
        await using var server = new ScriptedServer(ServeAsync);
        await using var storage = await server.OpenAsync();
        Assert.NotEqual(ReaderName, await ReadAsync(storage, promises: false));
    }

    [Fact]
    public async Task Who_promised_to_be_short_goes_on_upon_the_thread_that_receives()
    {
        Assert.SkipWhen(Environment.ProcessorCount > 2, "one connection and more than two processors: another one does the work");
        await using var server = new ScriptedServer(ServeAsync);
        await using var storage = await server.OpenAsync();
        Assert.Equal(ReaderName, await ReadAsync(storage, promises: true));
    }

    [Fact]
    public async Task Who_promised_goes_on_elsewhere_when_the_connection_fails()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(1 << 20);
            await peer.ReadRequestAsync();
            await Task.Delay(100);
        });
        await using var storage = await server.OpenAsync();
        var thread = await Task.Run(
            async () =>
            {
                InlineCompletions.Allow();
                await Assert.ThrowsAnyAsync<Exception>(() => storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel).AsTask());
                return Thread.CurrentThread.Name;
            },
            Cancel);
        Assert.NotEqual(ReaderName, thread);
    }

    // The answer comes when its reader waits for it.
    private static async Task ServeAsync(ScriptedPeer peer)
    {
        await peer.EnterAsync(1 << 20);
        var request = await peer.ReadRequestAsync();
        await Task.Delay(100);
        await peer.DataAsync(request.Cookie, 0, new byte[512]);
        await peer.WaitForEndAsync();
    }

    private static Task<string?> ReadAsync(NbdStorage storage, bool promises) => Task.Run(
        async () =>
        {
            if (promises)
            {
                InlineCompletions.Allow();
            }

            await storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel).ConfigureAwait(false);
            var thread = Thread.CurrentThread.Name;
            await Task.Yield();
            return thread;
        },
        Cancel);
}
