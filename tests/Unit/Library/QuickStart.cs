using System.Net;
using Platter;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Nbd.Server;

namespace Platter.Tests.Unit.Library;

/// <summary>The quick start of the README, word for word between the marks; <see cref="QuickStartTests"/> compares and runs it.</summary>
internal static class QuickStart
{
    public static async Task RunAsync(string[] args)
    {
        // README begins
        // qcow2, .hds, .hdd, .pvm, raw or nbd://…
        await using var disk = await Disk.OpenAsync(args[0]);
        Console.WriteLine($"{disk.Format}: {disk.Size} bytes, {disk.Snapshots.Count} snapshots");

        // Any range, and as many requests at once as you like.
        var superblock = new byte[1024];
        await disk.ReadAsync(1024, superblock);

        // What is where: data, zeros or nothing, and in which file at which offset.
        await foreach (var run in disk.MapAsync())
        {
            if (run.Data)
            {
                Console.WriteLine($"{run.Start}: {run.Length} bytes at {run.HostOffset} of layer {run.Depth}");
            }
        }

        // A snapshot as a raw file; holes stay holes.
        var options = new DiskOpenOptions { Snapshot = SnapshotSelector.Parse("Clean install") };
        await using var earlier = await Disk.OpenAsync(args[0], options);
        await Disk.ConvertAsync(earlier, args[1]);

        // For code that wants a stream.
        using var stream = earlier.AsStream();

        // An NBD server of any disk, with TLS and writing if you like (NbdServerOptions, NbdExport), and a client of any server.
        await using var server = new NbdServer(new Dictionary<string, NbdExport> { [""] = new(earlier.Node) });
        server.Start(new IPEndPoint(IPAddress.Loopback, 0));
        await using var remote = await Disk.OpenAsync($"nbd://{server.EndPoints[0]}", new DiskOpenOptions { Format = "raw" });
        Console.WriteLine($"{remote.Size} bytes are served");

        // Every failure is a BlockException: switch on its kind, show its message.
        try
        {
            await Disk.OpenAsync("no-such.qcow2");
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.NotFound)
        {
            Console.WriteLine(e.Message);
        }
        // README ends
    }

    /// <summary>Stands in for the real one, so that the test sees what is written and its own output stays clean.</summary>
    internal static class Console
    {
        public static List<string> Lines { get; } = [];

        public static void WriteLine(string line) => Lines.Add(line);
    }
}
