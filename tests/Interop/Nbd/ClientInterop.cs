using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

/// <summary>Our client against real servers, judged by the tools' own client.</summary>
internal static class ClientInterop
{
    public static ValueTask<NbdStorage> OpenAsync(NbdServer server) =>
        NbdStorage.OpenAsync(NbdUri.Parse(server.Uri), TestContext.Current.CancellationToken);

    /// <summary>Our map, by platter, is the tool's, character for character.</summary>
    public static void AssertSameMap(NbdServer server) => Assert.Equal(
        ToolRunner.RunChecked("qemu-img", "map", "--output=json", server.Uri).Text, PlatterCli.RunChecked("map", "--output=json", server.Uri).Text);

    /// <summary>Our conversion to raw is the tool's, byte for byte, and platter finds the export identical to it.</summary>
    public static void AssertSameConversion(NbdServer server, TempFolder folder)
    {
        PlatterCli.RunChecked("convert", "-O", "raw", server.Uri, folder["ours.raw"]);
        ToolRunner.RunChecked("qemu-img", "convert", "-f", "raw", "-O", "raw", server.Uri, folder["theirs.raw"]);
        ToolRunner.RunChecked("cmp", folder["ours.raw"], folder["theirs.raw"]);
        PlatterCli.RunChecked("compare", server.Uri, folder["theirs.raw"]);
    }

    /// <summary>Random reads of any place and length, many at a time, hold what a raw file does.</summary>
    /// <param name="storage">What is read.</param>
    /// <param name="raw">A copy of the export, perhaps rounded up to whole sectors.</param>
    /// <param name="alignment">Requests start and end at multiples of this.</param>
    public static async Task AssertSameReadsAsync(NbdStorage storage, string raw, int alignment = 1)
    {
        const int seed = 2;
        const int count = 200;
        const int maxLength = 300_000;
        var random = new Random(seed);
        using var expected = File.OpenHandle(raw);
        Assert.InRange(RandomAccess.GetLength(expected) - storage.Length, 0, 511);
        var requests = Enumerable.Range(0, count)
            .Select(_ => (At: random.NextInt64(storage.Length) / alignment * alignment, Length: random.Next(1, maxLength / alignment) * alignment))
            .ToArray();
        await Parallel.ForEachAsync(requests, new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (request, token) =>
        {
            var ours = new byte[request.Length];
            var theirs = new byte[request.Length];
            var read = await storage.ReadAsync(new HostOffset(request.At), ours, token);
            Assert.Equal(Math.Min(request.Length, storage.Length - request.At), read);
            Assert.InRange(RandomAccess.Read(expected, theirs, request.At), read, request.Length);
            Assert.True(ours.AsSpan(0, read).SequenceEqual(theirs.AsSpan(0, read)), $"seed {seed}: {request} differs");
        });
    }

    /// <summary>A qcow2 image with data, zeros and holes.</summary>
    public static string MakeQcow2(TempFolder folder, string size = "80M")
    {
        var path = folder["disk.qcow2"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", path, size);
        ToolRunner.RunChecked(
            "qemu-io", "-c", "write -P 3 1M 5M", "-c", "write -P 4 70M 700k", "-c", "write -z 40M 10M", "-c", "write -P 5 12345 54321", "-c", "write -P 6 20M 64k", path);
        return path;
    }
}
