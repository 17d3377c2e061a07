using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>Copies that can be trusted: the digest is one for all formats, and a copy that differs from its source is not called done.</summary>
public sealed class TrustTests
{
    [Fact]
    public void All_formats_have_one_digest_and_other_bytes_have_another()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("trust");
        File.WriteAllBytes(folder["a.raw"], [.. TestContent.MakeCompressible(1, 3 << 20), .. new byte[2 << 20], .. TestContent.Make(1, 5 << 20, 1 << 20)]);
        ToolRunner.RunChecked("qemu-img", "convert", "-O", "qcow2", folder["a.raw"], folder["a.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "convert", "-c", "-O", "qcow2", folder["a.raw"], folder["z.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "convert", "-O", "parallels", folder["a.raw"], folder["a.hds"]);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", folder["a.qcow2"], folder["top.qcow2"]);
        string[] names = [folder["a.raw"], folder["a.qcow2"], folder["z.qcow2"], folder["a.hds"], folder["top.qcow2"]];
        var digests = names.Select(name => Digest("digest", name)).ToList();
        Assert.Single(digests.Distinct());
        foreach (var (options, target) in new[] { ("-O raw", "b.raw"), ("-O qcow2", "b.qcow2"), ("-c -O qcow2", "c.qcow2") })
        {
            Assert.Equal(digests[0], Digest(["convert", "--digest", "--verify", .. options.Split(' '), folder["a.qcow2"], folder[target]]));
            Assert.Equal(digests[0], Digest("digest", folder[target]));
        }

        ToolRunner.RunChecked("qemu-io", "-c", "write -P 1 4M 512", folder["top.qcow2"]);
        Assert.NotEqual(digests[0], Digest("digest", folder["top.qcow2"]));
        Assert.Equal(
            Digest("digest", folder["top.qcow2"]),
            Digest("convert", "--digest", "-O", "qcow2", "-B", folder["a.qcow2"], "-F", "qcow2", folder["top.qcow2"], folder["copy.qcow2"]));
    }

    [Theory]
    [InlineData("raw")]
    [InlineData("qcow2")]
    public void A_copy_that_differs_from_its_source_fails_and_is_not_kept(string format)
    {
        ToolRunner.RequireOrSkip("nbdkit");
        using var folder = new TempFolder("trust");
        using var server = NbdServer.Nbdkit(folder, "eval", "get_size=echo 1M", "pread=head -c $3 /dev/urandom");
        var before = Directory.GetFileSystemEntries(folder.Path);
        var result = PlatterCli.Run("convert", "--verify", "-O", format, server.Uri, folder["copy"]);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("verification failed: the copy differs from the source at guest offset 0", result.Error, StringComparison.Ordinal);
        Assert.Equal(before, Directory.GetFileSystemEntries(folder.Path));
    }

    private static string Digest(params string[] arguments)
    {
        var line = PlatterCli.RunChecked(arguments).Text;
        Assert.Matches("^[0-9a-f]{64}  ", line);
        return line[..64];
    }
}
