using Platter.Core.Errors;
using Platter.Nbd.Client;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

public sealed class ClientQemuNbdTests : IDisposable
{
    private readonly TempFolder _folder = new("nbd");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_qcow2_export_has_the_tools_map_and_bytes()
    {
        var image = ClientInterop.MakeQcow2(_folder);
        using var server = NbdServer.QemuNbd(image, "qcow2", _folder);
        ClientInterop.AssertSameMap(server);
        ClientInterop.AssertSameConversion(server, _folder);
        PlatterCli.RunChecked("compare", server.Uri, image);
        await using var storage = await ClientInterop.OpenAsync(server);
        Assert.True(storage.CanMap);
        await ClientInterop.AssertSameReadsAsync(storage, _folder["theirs.raw"]);
    }

    [Fact]
    public async Task A_raw_export_of_an_odd_size_has_the_tools_map_and_bytes()
    {
        var raw = _folder["disk.raw"];
        using (var file = File.Create(raw))
        {
            file.SetLength((20 << 20) + 123);
            file.Write(TestContent.Make(1, 0, 1_000_000));
            file.Seek(10 << 20, SeekOrigin.Begin);
            file.Write(TestContent.Make(2, 0, 1_000_000));
        }

        using var server = NbdServer.QemuNbd(raw, "raw", _folder);
        ClientInterop.AssertSameMap(server);
        await using var storage = await ClientInterop.OpenAsync(server);
        Assert.True(storage.Length >= (20 << 20) + 123);
        ClientInterop.AssertSameConversion(server, _folder);
        await ClientInterop.AssertSameReadsAsync(storage, _folder["theirs.raw"]);
    }

    [Fact]
    public async Task A_qcow2_image_inside_a_raw_export_is_probed_and_read()
    {
        var image = ClientInterop.MakeQcow2(_folder);
        using var server = NbdServer.QemuNbd(image, "raw", _folder);
        await using var disk = await Disk.OpenAsync(server.Uri);
        Assert.Equal("qcow2", disk.Format);
        PlatterCli.RunChecked("compare", server.Uri, image);
        var info = PlatterCli.RunChecked("info", server.Uri).Text;
        Assert.Contains("file format: qcow2", info, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_named_export_is_found_and_any_other_is_not()
    {
        var image = ClientInterop.MakeQcow2(_folder);
        using var server = NbdServer.QemuNbd(image, "qcow2", _folder, "-x", "a disk/ü", "-D", "what it is");
        var address = NbdAddress.ForSocket(server.Socket);
        Assert.Equal([new("a disk/ü", "what it is")], await NbdClient.ListExportsAsync(address));
        await using (var storage = await NbdStorage.OpenAsync(address.WithExport("a disk/ü")))
        {
            Assert.Equal(80 << 20, storage.Length);
        }

        var e = await Assert.ThrowsAsync<BlockException>(async () => await NbdStorage.OpenAsync(address.WithExport("another")));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
    }

    [Fact]
    public async Task A_server_that_is_killed_fails_the_next_read()
    {
        var image = ClientInterop.MakeQcow2(_folder);
        using var server = NbdServer.QemuNbd(image, "qcow2", _folder);
        await using var storage = await ClientInterop.OpenAsync(server);
        Assert.Equal(512, await storage.ReadAsync(default, new byte[512]));
        server.Stop();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(default, new byte[512]));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
    }

    [Fact]
    public void Info_names_the_export_as_the_tool_does()
    {
        var image = ClientInterop.MakeQcow2(_folder);
        using var server = NbdServer.QemuNbd(image, "qcow2", _folder);
        Assert.Equal(
            ToolRunner.RunChecked("qemu-img", "info", server.Uri).Text, PlatterCli.RunChecked("info", server.Uri).Text);
    }
}
