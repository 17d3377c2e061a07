using Platter.TestKit;

namespace Platter.Tests.Interop.Cli;

/// <summary>Images of many kinds made by qemu-img, once for all tests that compare what the two programs say of them.</summary>
public sealed class PeerImages : IDisposable
{
    /// <summary>Names of the images, in the words of <see cref="this"/>.</summary>
    public static readonly string[] Names =
    [
        "sparse.raw", "odd.raw", "plain.qcow2", "v2.qcow2", "small-clusters.qcow2", "large-clusters.qcow2", "extended.qcow2", "zstd.qcow2",
        "refcount-1.qcow2", "refcount-64.qcow2", "lazy.qcow2", "preallocated.qcow2", "sub/base.qcow2", "sub/middle.qcow2", "sub/top.qcow2",
        "json-backing.qcow2", "snapshots.qcow2", "bitmaps.qcow2", "data-file.qcow2", "raw-data-file.qcow2", "empty.hds", "used.hds",
        "\u00fc \"q\" \u2603.qcow2", "empty.qcow2",
    ];

    /// <summary>Encrypted images; their password is "secret".</summary>
    public static readonly string[] Encrypted = ["luks.qcow2", "aes.qcow2"];

    private readonly TempFolder _folder = new("peer");

    public PeerImages()
    {
        if (!ToolRunner.IsInstalled("qemu-img") || !ToolRunner.IsInstalled("qemu-io"))
        {
            return;
        }

        _folder.CreateFolder("sub");
        Make("sparse.raw", "raw", "3M");
        Io("sparse.raw", "raw", "write -P 1 1M 64k", "write -P 2 2000k 4k");
        File.WriteAllBytes(this["odd.raw"], new byte[1000]);
        MakeUsed("plain.qcow2", "compat=1.1");
        MakeUsed("v2.qcow2", "compat=0.10", zeroes: false);
        MakeUsed("small-clusters.qcow2", "cluster_size=512");
        MakeUsed("large-clusters.qcow2", "cluster_size=2M");
        MakeUsed("extended.qcow2", "extended_l2=on");
        MakeUsed("zstd.qcow2", "compression_type=zstd");
        MakeUsed("refcount-1.qcow2", "refcount_bits=1");
        MakeUsed("refcount-64.qcow2", "refcount_bits=64");
        MakeUsed("lazy.qcow2", "lazy_refcounts=on");
        MakeUsed("\u00fc \"q\" \u2603.qcow2", "compat=1.1");
        Make("preallocated.qcow2", "qcow2", "5M", "-o", "preallocation=metadata");
        Make("empty.qcow2", "qcow2", "0");
        MakeUsed("sub/base.qcow2", "compat=1.1");
        Make("sub/middle.qcow2", "qcow2", "14M", "-b", "base.qcow2", "-F", "qcow2");
        Io("sub/middle.qcow2", "qcow2", "write -P 8 192k 64k", "write -z 2M 64k", "write -P 9 13M 4k");
        Make("sub/top.qcow2", "qcow2", "20M", "-b", this["sub/middle.qcow2"], "-F", "qcow2");
        Io("sub/top.qcow2", "qcow2", "write -P 10 3M 128k", "write -P 11 19M 64k");
        Make(
            "json-backing.qcow2", "qcow2", "12M", "-u", "-b",
            $$$"""json:{"driver":"qcow2","file":{"driver":"file","filename":"{{{this["sub/base.qcow2"]}}}"}}""", "-F", "qcow2");
        MakeUsed("snapshots.qcow2", "compat=1.1");
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "first snapshot", this["snapshots.qcow2"]);
        Io("snapshots.qcow2", "qcow2", "write -P 12 5M 64k");
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "a name that is longer than its column", this["snapshots.qcow2"]);
        MakeUsed("bitmaps.qcow2", "compat=1.1");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", this["bitmaps.qcow2"], "bm0");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "--disable", "-g", "128k", this["bitmaps.qcow2"], "bm1");
        MakeUsed("data-file.qcow2", $"data_file={this["data-file.data"]}", compressed: false);
        MakeUsed("raw-data-file.qcow2", $"data_file={this["raw-data-file.data"]},data_file_raw=on", compressed: false);
        Make("empty.hds", "parallels", "100M");
        Make("used.hds", "parallels", "20M");
        Io("used.hds", "parallels", "write -P 1 0 1M", "write -P 2 5M 2M", "write -P 3 3M 4k");
        MakeEncrypted("luks.qcow2", "luks", ",encrypt.iter-time=10");
        MakeEncrypted("aes.qcow2", "aes", string.Empty);
    }

    /// <summary>Path of an image; skips the test where the peer is missing.</summary>
    public string this[string name]
    {
        get
        {
            ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
            return _folder[name];
        }
    }

    /// <summary>The folder, for what a test makes itself.</summary>
    public TempFolder Folder => _folder;

    public void Dispose() => _folder.Dispose();

    private void Make(string name, string format, string size, params string[] more) =>
        ToolRunner.RunChecked("qemu-img", ["create", "-q", "-f", format, .. more, this[name], size]);

    private void MakeUsed(string name, string options, bool zeroes = true, bool compressed = true)
    {
        Make(name, "qcow2", "12M", "-o", options);
        Io(name, "qcow2", "write -P 1 0 64k", "write -P 2 128k 200k", "write -P 3 5M 1M", "write -P 4 11000k 4k");
        if (zeroes)
        {
            Io(name, "qcow2", "write -z 1M 256k", "write -z -u 5200k 100k");
        }

        if (compressed)
        {
            Io(name, "qcow2", "write -c -P 5 8M 64k", "write -c -P 6 10M 4k");
        }
    }

    private void MakeEncrypted(string name, string format, string more)
    {
        PeerEncryption.Create(
            "--object", "secret,id=s,data=secret", "-o", $"encrypt.format={format},encrypt.key-secret=s{more}",
            this[name], "4M");
        ToolRunner.RunChecked(
            "qemu-io", "--object", "secret,id=s,data=secret", "-c", "write -P 7 64k 200k", "--image-opts",
            $"driver=qcow2,file.filename={this[name]},encrypt.key-secret=s");
    }

    // A compressed write needs a whole free cluster; where an image has other cluster sizes some of these fail, which is as good.
    private void Io(string name, string format, params string[] commands) =>
        ToolRunner.Run("qemu-io", ["-f", format, .. commands.SelectMany(c => new[] { "-c", c }), this[name]]);
}
