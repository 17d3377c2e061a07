using Platter.Bench.Inputs;

namespace Platter.Bench.Rows;

/// <summary>Images into raw ones. Source in the page cache; target in memory, where a flush costs nothing (we flush it at the end, qemu-img does not).</summary>
internal static class ConvertRows
{
    private static readonly Target DefaultFlags = Target.AtMost(0.65), BestFlags = Target.AtMost(1.0);
    private static readonly string[] Needs = ["qemu-img", "mkfs.ext4"];

    public static Benchmark[] All { get; } =
    [
        Row("plain", "How fast do plain clusters come out of a qcow2 image?", b => b.Inputs.GuestQcow2, DefaultFlags, BestFlags),
        Row("chain", "What does a chain of ten qcow2 images cost?", b => b.Inputs.Chain, DefaultFlags, BestFlags, "qemu-io"),
        Row("zlib", "How fast are deflated clusters decoded, on all cores?", b => b.Inputs.GuestZlib, null, Target.AtMost(0.5)),
        Row("zstd", "How fast are zstd clusters decoded, on all cores?", b => b.Inputs.GuestZstd, null, Target.AtMost(0.6)),
        Luks(),
        Row("parallels", "How fast is a Parallels image read?", b => b.Inputs.GuestHds, DefaultFlags, null),
        Row("raw", "How fast is a raw disk with holes copied?", b => b.Inputs.GuestRaw, DefaultFlags, BestFlags),
        ToDisk("disk", "And with the target on a disk, both waiting until it is there?", b => b.Inputs.GuestQcow2),
    ];

    /// <param name="name">Of the row.</param>
    /// <param name="question">It answers.</param>
    /// <param name="source">The image.</param>
    /// <param name="defaults">Target against the peer without flags; null leaves that peer out.</param>
    /// <param name="best">Target against the peer with its fastest flags; null leaves that peer out.</param>
    /// <param name="needs">More tools.</param>
    private static CommandBenchmark Row(
        string name, string question, Func<BenchContext, string> source, Target? defaults, Target? best, params string[] needs) =>
        new($"convert/{name}", question, [.. Needs, .. needs], bench =>
        {
            var image = source(bench);
            var qemu = bench.Tools.Require("qemu-img");
            var peers = new List<PeerCommand>();
            if (defaults is not null)
            {
                peers.Add(new("qemu-img convert", [qemu, "convert", "-O", "raw", image, bench.Target], defaults));
            }

            if (best is not null)
            {
                peers.Add(new("qemu-img convert -W -m 16", [qemu, "convert", "-W", "-m", "16", "-O", "raw", image, bench.Target], best));
            }

            return new([bench.Platter, "convert", "-O", "raw", image, bench.Target], [.. peers]) { Target = bench.Target };
        });

    private static CommandBenchmark Luks() =>
        new("convert/luks", "How fast is an encrypted image decrypted?", Needs, bench =>
        {
            string[] source =
            [
                "-O", "raw", "--object", $"secret,id=s,data={InputImages.Password}", "--image-opts",
                $"driver=qcow2,encrypt.key-secret=s,file.filename={bench.Inputs.GuestLuks}", bench.Target,
            ];
            var qemu = bench.Tools.Require("qemu-img");
            return new(
                [bench.Platter, "convert", .. source],
                new PeerCommand("qemu-img convert", [qemu, "convert", .. source], Target.AtMost(0.5)),
                new PeerCommand("qemu-img convert -W -m 16", [qemu, "convert", "-W", "-m", "16", .. source])) { Target = bench.Target };
        });

    private static CommandBenchmark ToDisk(string name, string question, Func<BenchContext, string> source) =>
        new($"convert/{name}", question, Needs, bench => new(
            [bench.Platter, "convert", "-O", "raw", source(bench), bench.DiskTarget],
            new PeerCommand(
                "qemu-img convert -t writeback", [bench.Tools.Require("qemu-img"), "convert", "-t", "writeback", "-O", "raw", source(bench), bench.DiskTarget]))
        {
            Target = bench.DiskTarget,
        });
}
