using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>amend</c>, with the peer as maker of the images and as judge.</summary>
public sealed class AmendTests
{
    [Theory]
    [InlineData("compat=1.1", false)]
    [InlineData("compat=1.1", true)]
    [InlineData("cluster_size=512", true)]
    [InlineData("lazy_refcounts=on,cluster_size=4k", false)]
    public void Disk_and_snapshots_read_the_same_after_every_change(string options, bool backing)
    {
        using var folder = Image(options, backing);
        var image = folder["disk.qcow2"];
        string[] changes =
        [
            "compat=0.10", "compat=1.1,lazy_refcounts=on,refcount_bits=64", "refcount_bits=8", "lazy_refcounts=off", "compat=v2,refcount_bits=16", "compat=v3,refcount_bits=32",
        ];
        foreach (var change in changes)
        {
            PlatterCli.Run("amend", "-o", change, image).Expect();
            OfflineInterop.Check(image);
            OfflineInterop.ReadsAs(image, folder["want.raw"]);
            foreach (var snapshot in new[] { "one", "two" })
            {
                OfflineInterop.Keep(image, folder["found.raw"], snapshot);
                OfflineInterop.ReadsAs(folder["found.raw"], folder["snapshot.raw"], "raw");
            }

            // The peer says that there is nothing left to do.
            var after = File.ReadAllBytes(image);
            ToolRunner.RunChecked("qemu-img", "amend", "-o", change, image);
            Assert.Equal(after.Length, new FileInfo(image).Length);
        }

        Assert.Equal("32", Field(image, "refcount bits"));
        OfflineInterop.Write(image, "write -P 5 0 3M");
        OfflineInterop.Check(image);
    }

    [Fact]
    public void A_refcount_that_does_not_fit_is_named_and_nothing_changes()
    {
        using var folder = Image("compat=1.1", backing: false);
        var error = SameAsPeer.Failure("amend", "-o", "refcount_bits=1", folder["disk.qcow2"]);
        Assert.StartsWith("Cannot decrease refcount entry width to 1 bits: Cluster at offset ", error);
        OfflineInterop.Check(folder["disk.qcow2"]);
        Assert.Equal("16", Field(folder["disk.qcow2"], "refcount bits"));
    }

    [Fact]
    public void The_size_and_the_data_file_change()
    {
        using var folder = Image("compat=0.10", backing: false);
        var image = folder["disk.qcow2"];
        PlatterCli.Run("amend", "-o", "compat=1.1,size=20M", image).Expect();
        OfflineInterop.Reads(image, "read -P 0 3M 17M");
        OfflineInterop.Check(image);
        PlatterCli.Run("amend", "-o", "size=3M", image).Expect();
        OfflineInterop.ReadsAs(image, folder["want.raw"]);

        var other = folder["data.qcow2"];
        OfflineInterop.Create(other, $"data_file={folder["a"]},data_file_raw=on", "1M");
        File.Copy(folder["a"], folder["b"]);
        PlatterCli.Run("amend", "-o", $"data_file={folder["b"]},data_file_raw=off", other).Expect();
        Assert.Equal(folder["b"], Field(other, "data file"));
        Assert.Equal("false", Field(other, "data file raw"));
        OfflineInterop.Check(other);
    }

    [Theory]
    [InlineData("compat=0.9", "Unknown compatibility level 0.9")]
    [InlineData("refcount_bits=3", "Refcount width must be a power of two and may not exceed 64 bits")]
    [InlineData("compat=0.10,refcount_bits=8", "compat=0.10 requires refcount_bits=16")]
    [InlineData("data_file=x", "data-file can only be set for images that use an external data file")]
    [InlineData("data_file_raw=on", "data-file-raw cannot be set on existing images")]
    [InlineData("encrypt.state=active", "Can't amend encryption options - encryption not present")]
    [InlineData("backing_file=x", "Cannot amend the backing file. You can use 'rebase' instead.")]
    [InlineData("cluster_size=4k", "Invalid parameter 'cluster_size'. This option is only supported for image creation")]
    [InlineData("strange=1", "Invalid parameter 'strange'")]
    public void What_is_not_allowed_is_refused(string options, string message)
    {
        using var folder = Image("compat=1.1", backing: false);
        Assert.Equal(message, SameAsPeer.Failure("amend", "-o", options, folder["disk.qcow2"]));
    }

    [Theory]
    [InlineData("extended_l2=on", "Cannot downgrade an image with incompatible features 0x10 set")]
    [InlineData("data_file=data", "Cannot downgrade an image with a data file")]
    public void What_version_2_does_not_know_keeps_an_image_from_it(string options, string message)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("amend");
        OfflineInterop.Create(folder["disk.qcow2"], options.Replace("=data", $"={folder["data"]}", StringComparison.Ordinal), "1M");
        Assert.Equal(message, SameAsPeer.Failure("amend", "-o", "compat=0.10", folder["disk.qcow2"]));
    }

    [Fact]
    public void The_options_are_listed_as_the_peer_lists_them() => SameAsPeer.Text("amend", "-f", "qcow2", "-o", "help");

    [Fact]
    public void Passwords_come_and_go_as_with_the_peer()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("amend");
        var secrets = new[] { "a", "b", "c" }.SelectMany(id => new[] { "--object", $"secret,id={id},file={folder.Write(id, $"password {id}")}" }).ToArray();
        var image = folder["disk.qcow2"];
        const string Quick = ",encrypt.iter-time=10";
        ToolRunner.RunChecked("qemu-img", ["create", "-q", .. secrets, "-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=a" + Quick, image, "1M"]);
        ToolRunner.RunChecked("qemu-io", [.. secrets, "--image-opts", "-c", "write -P 5 0 100k", By("a")]);
        PlatterCli.Run(Amend("a", "encrypt.state=active,encrypt.new-secret=b,encrypt.keyslot=6" + Quick)).Expect();
        Opens("a", "b");
        Assert.Equal(
            "Refusing to overwrite active keyslot 6 - please erase it first", SameAsPeer.Failure(Amend("a", "encrypt.state=active,encrypt.new-secret=c,encrypt.keyslot=6" + Quick)));
        PlatterCli.Run(Amend("a", "encrypt.state=active,encrypt.new-secret=c,encrypt.keyslot=6" + Quick, "--force")).Expect();
        Opens("a", "c");
        ToolRunner.RunChecked("qemu-img", Amend("c", "encrypt.state=active,encrypt.new-secret=b" + Quick));
        PlatterCli.Run(Amend("c", "encrypt.state=inactive,encrypt.old-secret=a")).Expect();
        Opens("b", "c");
        PlatterCli.Run(Amend("c", "encrypt.state=inactive,encrypt.keyslot=1")).Expect();
        Opens("c");
        Assert.Contains("refusing operation", SameAsPeer.Failure(Amend("c", "encrypt.state=inactive,encrypt.keyslot=6")));
        Assert.Contains("refusing operation", SameAsPeer.Failure(Amend("c", "encrypt.state=inactive,encrypt.old-secret=c")));
        Assert.Equal("No keyslots match given (old) password for erase operation", SameAsPeer.Failure(Amend("c", "encrypt.state=inactive,encrypt.old-secret=a")));
        Opens("c");

        string By(string secret) => $"driver=qcow2,file.filename={image},encrypt.key-secret={secret}";

        string[] Amend(string secret, string options, params string[] more) => ["amend", .. secrets, .. more, "-o", options, "--image-opts", By(secret)];

        void Opens(params string[] wanted)
        {
            foreach (var secret in new[] { "a", "b", "c" })
            {
                var result = ToolRunner.Run("qemu-io", [.. secrets, "--image-opts", "-r", "-c", "read -P 5 0 100k", By(secret)]);
                Assert.True((result.ExitCode == 0) == wanted.Contains(secret), $"{secret}: {result}");
                Assert.DoesNotContain("verification failed", result.Text, StringComparison.Ordinal);
            }

            ToolRunner.RunChecked("qemu-img", ["check", .. secrets, "--image-opts", By(wanted[0])]);
        }
    }

    private static string? Field(string image, string key) => ToolRunner.RunChecked("qemu-img", "info", image).Lines
        .FirstOrDefault(line => line.StartsWith($"{key}: ", StringComparison.Ordinal))?[(key.Length + 2)..];

    // Data, zeros with and without a cluster, compressed; two snapshots that read as snapshot.raw, and the disk as want.raw.
    private static TempFolder Image(string options, bool backing)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        var folder = new TempFolder("amend");
        var image = folder["disk.qcow2"];
        if (backing)
        {
            OfflineInterop.CreateRaw(folder["base.raw"], "1M", 9);
        }

        OfflineInterop.Create(image, options, "3M", backing ? folder["base.raw"] : null, "raw");
        var zero = options == "compat=0.10" ? "write -P 0" : "write -z";
        OfflineInterop.Write(
            image, "write -P 2 100k 100k", "write -P 3 2500k 4k", $"{zero} 700k 64k", "write -P 5 800k 64k", $"{zero} 800k 64k", "write -c -P 6 1M 64k");
        OfflineInterop.Keep(image, folder["snapshot.raw"]);
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "one", image);
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "two", image);
        OfflineInterop.Write(image, "write -P 7 0 64k", $"{zero} 768k 64k", "write -P 1 2M 100k");
        OfflineInterop.Keep(image, folder["want.raw"]);
        return folder;
    }
}
