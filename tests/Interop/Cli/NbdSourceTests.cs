using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>What the commands print of an image that comes over NBD is what qemu-img prints.</summary>
public sealed class NbdSourceTests(PeerImages images) : IClassFixture<PeerImages>
{
    [Theory]
    [InlineData("plain.qcow2")]
    [InlineData("extended.qcow2")]
    [InlineData("sub/top.qcow2")]
    public void An_export_of_the_peer_is_told_the_same(string name)
    {
        using var server = NbdServer.QemuNbd(images[name], "qcow2", images.Folder);
        SameAsPeer.Text("info", server.Uri);
        SameAsPeer.Json("info", "--output=json", server.Uri);
        SameAsPeer.Json("map", "--output=json", server.Uri);
        SameAsPeer.Text("measure", "-O", "qcow2", server.Uri);
        SameAsPeer.Text("compare", server.Uri, images[name]);
        SameAsPeer.Text("compare", server.Uri, images["empty.hds"]);
        PlatterCli.RunChecked("convert", server.Uri, images.Folder["copy.raw"]);
        ToolRunner.RunChecked("qemu-img", "compare", "-F", "raw", images[name], images.Folder["copy.raw"]);
    }

    [Theory]
    [InlineData("nbd+unix:///?socket=/nonexistent/s")]
    [InlineData("nbd://127.0.0.1:1/")]
    [InlineData("nbd+unix:///")]
    public void A_server_that_is_not_there_is_told_in_one_line(string uri)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        SameAsPeer.Failure("info", uri);
    }
}
