using System.Buffers.Binary;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>What the peer refuses, we refuse with the same exit code and in one line.</summary>
public sealed class FailureTests(PeerImages images) : IClassFixture<PeerImages>
{
    [Theory]
    [InlineData("Could not open '{dir}/missing': No such file or directory", "info", "{dir}/missing")]
    [InlineData("Could not open '{dir}/missing': No such file or directory", "map", "{dir}/missing")]
    [InlineData("Could not open '{dir}/missing': No such file or directory", "check", "{dir}/missing")]
    [InlineData("Could not open '{dir}/missing': No such file or directory", "compare", "{dir}/missing", "{dir}/plain.qcow2")]
    [InlineData("Could not open '{dir}/missing': No such file or directory", "compare", "{dir}/plain.qcow2", "{dir}/missing")]
    [InlineData("Could not open '{dir}/missing': No such file or directory", "convert", "{dir}/missing", "{dir}/x")]
    [InlineData("Could not open '{dir}/missing': No such file or directory", "measure", "{dir}/missing")]
    [InlineData("Could not open '{dir}/plain.qcow2': Unknown driver 'nosuch'", "info", "-f", "nosuch", "{dir}/plain.qcow2")]
    [InlineData("Could not open 'nosuch:x': Unknown protocol 'nosuch'", "info", "nosuch:x")]
    [InlineData("This image format does not support checks", "check", "{dir}/sparse.raw")]
    [InlineData("Unknown file format 'nosuch'", "convert", "-O", "nosuch", "{dir}/plain.qcow2", "{dir}/x")]
    [InlineData("Invalid number of coroutines. Allowed number of coroutines is between 1 and 16", "convert", "-m", "0", "a", "b")]
    [InlineData("Must specify image file name", "convert", "{dir}/plain.qcow2")]
    public void Refused_in_the_same_words(string message, params string[] args)
    {
        var folder = images.Folder.Path;
        _ = images["plain.qcow2"];
        Assert.Equal(message.Replace("{dir}", folder), SameAsPeer.Failure([.. args.Select(a => a.Replace("{dir}", folder))]));
    }

    [Fact]
    public void A_declared_format_must_be_the_one_that_is_there()
    {
        Assert.Contains("qcow2", SameAsPeer.Failure("info", "-f", "qcow2", images["sparse.raw"]), StringComparison.Ordinal);
        SameAsPeer.Failure("info", "-f", "parallels", images["plain.qcow2"]);
        SameAsPeer.Failure("compare", "-F", "qcow2", images["plain.qcow2"], images["sparse.raw"]);
    }

    [Fact]
    public void Compare_tells_a_broken_mapping_from_unreadable_data()
    {
        var name = images.Folder["bad-l1.qcow2"];
        File.Copy(images["plain.qcow2"], name);
        using (var file = File.OpenWrite(name))
        {
            // The first L1 entry, no longer on a cluster.
            var header = File.ReadAllBytes(images["plain.qcow2"]).AsSpan(40, 8);
            file.Position = BinaryPrimitives.ReadInt64BigEndian(header) + 6;
            file.Write([0x02, 0x00]);
        }

        SameAsPeer.Failure("compare", images["sparse.raw"], name);
        SameAsPeer.Failure("compare", name, images["sparse.raw"]);
        Assert.Equal(3, PlatterCli.Run("compare", name, images["sparse.raw"]).ExitCode);
    }

    [Theory]
    [InlineData("driver=raw,foo=1,file.filename={dir}/sparse.raw")]
    [InlineData("driver=raw,foo.bar=1,file.filename={dir}/sparse.raw")]
    [InlineData("driver=raw,encrypt.key-secret=s,file.filename={dir}/sparse.raw")]
    [InlineData("driver=raw,backing.file.filename={dir}/sparse.raw,file.filename={dir}/sparse.raw")]
    [InlineData("driver=parallels,offset=512,file.filename={dir}/empty.hds")]
    public void Options_that_a_format_does_not_have_are_refused_in_the_same_words(string options)
    {
        _ = (images["sparse.raw"], images["empty.hds"]);
        SameAsPeer.Failure("info", "--image-opts", options.Replace("{dir}", images.Folder.Path));
    }

    [Fact]
    public void A_broken_chain_fails_where_the_chain_is_needed()
    {
        var name = images.Folder["broken.qcow2"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "gone.qcow2", "-F", "qcow2", name, "1M");
        SameAsPeer.Text("info", name);
        SameAsPeer.Failure("map", name);
        SameAsPeer.Failure("convert", "-O", "raw", name, images.Folder["x.raw"]);
        SameAsPeer.Failure("info", "--backing-chain", name);
    }

    [Fact]
    public void A_chain_without_end_fails()
    {
        var name = images.Folder["loop.qcow2"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "other.qcow2", "-F", "qcow2", name, "1M");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "loop.qcow2", "-F", "qcow2", images.Folder["other.qcow2"], "1M");
        SameAsPeer.Text("info", name);
        SameAsPeer.Failure("info", "--backing-chain", name);
    }

    [Fact]
    public void Damage_is_counted_alike_and_gives_the_same_exit_code()
    {
        var corrupt = images.Folder["corrupt.qcow2"];
        File.Copy(images["plain.qcow2"], corrupt, overwrite: true);
        Patch(corrupt, 0x20000, [0, 0]);
        SameAsPeer.Text("check", corrupt);
        SameAsPeer.Json("check", "--output=json", corrupt);
        SameAsPeer.Text("check", "-q", corrupt);
        Assert.Equal(2, PlatterCli.Run("check", corrupt).ExitCode);

        var leaking = images.Folder["leaking.qcow2"];
        File.Copy(images["plain.qcow2"], leaking, overwrite: true);
        using (var file = File.Open(leaking, FileMode.Open))
        {
            file.SetLength(16 << 20);
        }

        Patch(leaking, 0x20000 + (2 * 200), [0, 1]);
        SameAsPeer.Text("check", leaking);
        SameAsPeer.Json("check", "--output=json", leaking);
        Assert.Equal(3, PlatterCli.Run("check", leaking).ExitCode);
    }

    private static void Patch(string file, long at, byte[] bytes)
    {
        using var stream = File.Open(file, FileMode.Open);
        stream.Position = at;
        stream.Write(bytes);
    }
}
