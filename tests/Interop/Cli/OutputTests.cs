using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>What the commands print of images that qemu-img made is what qemu-img prints.</summary>
public sealed class OutputTests(PeerImages images) : IClassFixture<PeerImages>
{
    public static TheoryData<string> Images => new(PeerImages.Names);

    public static TheoryData<string> EncryptedImages => new(PeerImages.Encrypted);

    [Theory]
    [MemberData(nameof(Images))]
    [MemberData(nameof(EncryptedImages))]
    public void Info_tells_the_same(string name)
    {
        SameAsPeer.Text("info", images[name]);
        SameAsPeer.Json("info", "--output=json", images[name]);
    }

    [Theory]
    [MemberData(nameof(Images))]
    [MemberData(nameof(EncryptedImages))]
    public void Info_of_the_chain_tells_the_same(string name)
    {
        SameAsPeer.Text("info", "--backing-chain", images[name]);
        SameAsPeer.Json("info", "--backing-chain", "--output", "json", images[name]);
    }

    [Theory]
    [MemberData(nameof(Images))]
    public void Map_lists_the_same_extents(string name)
    {
        SameAsPeer.Json("map", "--output=json", images[name]);
        SameAsPeer.Json("map", "--output=json", "--start-offset=100k", "--max-length=6000k", images[name]);
        SameAsPeer.Text("map", images[name]);
    }

    [Theory]
    [MemberData(nameof(Images))]
    public void Measure_gives_the_same_sizes(string name)
    {
        SameAsPeer.Text("measure", images[name]);
        SameAsPeer.Json("measure", "-O", "qcow2", "--output=json", images[name]);
        SameAsPeer.Text("measure", "-O", "qcow2", "-o", "cluster_size=4k,refcount_bits=64", images[name]);
        SameAsPeer.Text("measure", "-O", "qcow2", "-o", $"backing_file={images["plain.qcow2"]},backing_fmt=qcow2", images[name]);
    }

    [Fact]
    public void Names_of_a_chain_start_as_the_caller_wrote_the_first()
    {
        _ = images["sub/top.qcow2"];
        var before = Environment.CurrentDirectory;
        Environment.CurrentDirectory = images.Folder["sub"];
        try
        {
            SameAsPeer.Text("info", "--backing-chain", "./middle.qcow2");
            SameAsPeer.Text("info", "--backing-chain", "middle.qcow2");
            SameAsPeer.Json("map", "--output=json", "./middle.qcow2");
            SameAsPeer.Text("map", "./middle.qcow2");
        }
        finally
        {
            Environment.CurrentDirectory = before;
        }
    }

    [Theory]
    [MemberData(nameof(Images))]
    public void Check_counts_the_same(string name)
    {
        SameAsPeer.Text("check", images[name]);
        if (!name.EndsWith(".raw", StringComparison.Ordinal))
        {
            SameAsPeer.Json("check", "--output=json", images[name]);
        }
    }

    [Theory]
    [InlineData("--size", "1G")]
    [InlineData("--size", "513")]
    [InlineData("-O", "qcow2", "--size", "1T", "--output=json")]
    [InlineData("-O", "qcow2", "--size", "0")]
    [InlineData("-O", "qcow2", "--size", "513")]
    [InlineData("-O", "qcow2", "-o", "cluster_size=4k,refcount_bits=1", "--size", "1G")]
    [InlineData("-O", "qcow2", "-o", "preallocation=full", "--size", "1G")]
    [InlineData("-O", "qcow2", "-o", "preallocation=metadata", "--size", "1G")]
    [InlineData("-O", "qcow2", "-o", "extended_l2=on", "--size", "1G")]
    [InlineData("-O", "qcow2", "-o", "compat=0.10", "--size", "1G")]
    public void Measure_of_an_empty_disk_gives_the_same_sizes(params string[] args)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        if (args.Contains("--output=json"))
        {
            SameAsPeer.Json(["measure", .. args]);
        }
        else
        {
            SameAsPeer.Text(["measure", .. args]);
        }
    }

    [Theory]
    [InlineData("plain.qcow2", "v2.qcow2")]
    [InlineData("plain.qcow2", "preallocated.qcow2")]
    [InlineData("lazy.qcow2", "zstd.qcow2")]
    [InlineData("plain.qcow2", "large-clusters.qcow2")]
    [InlineData("small-clusters.qcow2", "plain.qcow2")]
    [InlineData("plain.qcow2", "plain.qcow2")]
    [InlineData("plain.qcow2", "zstd.qcow2")]
    [InlineData("plain.qcow2", "data-file.qcow2")]
    [InlineData("plain.qcow2", "sub/top.qcow2")]
    [InlineData("sub/middle.qcow2", "sub/base.qcow2")]
    [InlineData("sparse.raw", "plain.qcow2")]
    [InlineData("empty.hds", "used.hds")]
    [InlineData("empty.hds", "empty.qcow2")]
    [InlineData("empty.qcow2", "empty.hds")]
    public void Compare_finds_the_same_first_difference(string first, string second)
    {
        SameAsPeer.Text("compare", images[first], images[second]);
        SameAsPeer.Text("compare", "-s", images[first], images[second]);
        SameAsPeer.Text("compare", "-q", images[first], images[second]);
    }

    [Fact]
    public void Image_options_and_json_names_open_the_same_image()
    {
        SameAsPeer.Text("info", "--image-opts", $"driver=qcow2,file.filename={images["plain.qcow2"]}");
        SameAsPeer.Text("info", $$$"""json:{"driver":"qcow2","file":{"driver":"file","filename":"{{{images["plain.qcow2"]}}}"}}""");
        SameAsPeer.Text("info", $"file:{images["plain.qcow2"]}");
        SameAsPeer.Text("info", "-f", "raw", images["plain.qcow2"]);
        SameAsPeer.Text("info", "-U", images["plain.qcow2"]);
    }

    [Theory]
    [MemberData(nameof(EncryptedImages))]
    public void Encrypted_images_map_the_same_with_their_password(string name)
    {
        var source = $"driver=qcow2,file.filename={images[name]},encrypt.key-secret=s";
        SameAsPeer.Json("map", "--output=json", "--object", "secret,id=s,data=secret", "--image-opts", source);
        SameAsPeer.Json("map", "--output=json", "--object", "secret,id=s,data=c2VjcmV0,format=base64", "--image-opts", source);
        SameAsPeer.Failure("map", "--object", "secret,id=s,data=wrong", "--image-opts", source);
        SameAsPeer.Failure("map", images[name]);
    }
}
