using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.TestKit;
using Xunit;
using NbdServer = Platter.TestKit.NbdServer;

namespace Platter.Tests.Interop.Nbd;

/// <summary>Our client with a server that knows extended headers.</summary>
public sealed class ClientNewerPeerTests : IDisposable
{
    private const long Size = 6L << 30;

    private readonly TempFolder _folder = new("nbd");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Qemu_nbd_is_written_mapped_and_read_with_extended_headers()
    {
        using var server = Serve("raw");
        Assert.Equal(0, PlatterCli.Run("nbd", "info", "--is", "extended-headers", server.Uri).ExitCode);
        await using (var storage = await NbdStorage.OpenAsync(NbdUri.Parse(server.Uri), new NbdClientOptions { Writable = true }, TestContext.Current.CancellationToken))
        {
            var bytes = TestContent.Make(1, 0, 3 << 20);
            await storage.WriteAsync(new(5L << 30), bytes);
            await storage.WriteAsync(new(1000), bytes.AsMemory(0, 5000), durable: true, CancellationToken.None);
            await storage.WriteZeroesAsync(new(64 << 10), Size - (2 << 20) - (64 << 10), mayUnmap: true);
            await storage.WriteAsync(new((4L << 30) - 512), bytes.AsMemory(0, 1024));
            await storage.DiscardAsync(new(1L << 30), 1L << 30);
            await storage.FlushAsync();
            Assert.Equal(bytes[..5000], await ReadAsync(storage, 1000, 5000));
            Assert.Equal(bytes[1000..1024], await ReadAsync(storage, (4L << 30) + 488, 24));

            // Around the border of 32 bits.
            var map = await storage.MapAsync(new(64 << 10), Size - (64 << 10));
            Assert.True(map.ReadsZero);
            Assert.InRange(map.Length, 3L << 30, (4L << 30) - 512);
        }

        Assert.Equal(NewerPeers.RunChecked("nbdinfo", "--map", server.Uri).Text, PlatterCli.RunChecked("nbd", "map", server.Uri).Text);
        Assert.Equal(NewerPeers.RunChecked("nbdinfo", "--map", "--totals", server.Uri).Text, PlatterCli.RunChecked("nbd", "map", "--totals", server.Uri).Text);
        Assert.Equal(NewerPeers.RunChecked("nbdinfo", "--no-content", server.Uri).Text, PlatterCli.RunChecked("nbd", "info", "--no-content", server.Uri).Text);
        PlatterCli.RunChecked("nbd", "copy", "--verify", server.Uri, _folder["copy.raw"]);
        NewerPeers.RunChecked("qemu-img", "compare", "-f", "raw", "-F", "raw", server.Uri, _folder["copy.raw"]);
    }

    [Fact]
    public void A_qcow2_export_is_converted_and_compared()
    {
        using var server = Serve("qcow2");
        var image = ClientInterop.MakeQcow2(_folder);
        PlatterCli.RunChecked("convert", "-n", "-O", "raw", "--verify", image, server.Uri);
        NewerPeers.RunChecked("qemu-img", "compare", image, server.Uri);
    }

    private static async Task<byte[]> ReadAsync(NbdStorage storage, long at, int length)
    {
        var bytes = new byte[length];
        await storage.ReadAsync(new HostOffset(at), bytes);
        return bytes;
    }

    private NbdServer Serve(string format)
    {
        NewerPeers.Command("qemu-nbd");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", format, _folder["disk"], $"{Size}");
        return NewerPeers.QemuNbd(_folder["disk"], format, _folder, "--discard=unmap");
    }
}
