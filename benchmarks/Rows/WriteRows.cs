using Platter.Bench.Inputs;

namespace Platter.Bench.Rows;

/// <summary>Making qcow2 and Parallels images and writing into them. Targets in memory, as for the other copies; what was written is compared by <c>qemu-img compare</c>.</summary>
internal static class WriteRows
{
    private static readonly string[] Needs = ["qemu-img", "mkfs.ext4"];

    public static Benchmark[] All { get; } =
    [
        Create("create", "How long does it take to make an empty qcow2 image of 1 TiB?", Target.AtMost(0.7), isShort: true),
        Create("create/metadata", "And one with all its tables (preallocation=metadata)?", Target.AtMost(0.2), isShort: false, "-o", "preallocation=metadata"),
        To("qcow2", "write/plain", "How fast does a raw disk become qcow2?", [], Target.AtMost(0.65), Target.AtMost(1.0)),
        To("qcow2", "write/zlib", "And compressed with deflate, on all cores?", ["-c"], null, Target.AtMost(0.35)),
        To("qcow2", "write/zstd", "With zstd?", ["-c", "-o", "compression_type=zstd"], null, Target.AtMost(0.6)),
        To("parallels", "write/parallels", "How fast does a raw disk become a Parallels image?", [], Target.AtMost(0.65), null),
        Luks(),
        Random("write/4k-empty", "How fast are 4 KiB writes all over an empty qcow2 image?", bench => bench.Inputs.Empty),
        Random("write/4k-full", "Over one in which everything is allocated?", bench => bench.Inputs.NoiseQcow2),
        Random("write/4k-backing", "Over an empty one with a backing file?", bench => bench.Inputs.Overlay),
        Random("write/4k-parallels", "How fast are 4 KiB writes all over an empty Parallels image?", bench => bench.Inputs.EmptyHds, "parallels"),
        new CommandBenchmark("digest", "What does a digest of a disk cost, against that of the raw file's bytes?", ["sha256sum", "mkfs.ext4"], bench => new(
            [bench.Platter, "digest", bench.Inputs.GuestQcow2], new PeerCommand("sha256sum", [bench.Tools.Require("sha256sum"), bench.Inputs.GuestRaw]))),
    ];

    private static CommandBenchmark Create(string name, string question, Target target, bool isShort, params string[] options) =>
        new(name, question, ["qemu-img"], bench =>
        {
            string[] arguments = ["create", "-q", "-f", "qcow2", .. options, bench.Target, "1T"];
            return Comparing(bench, arguments, new PeerCommand("qemu-img create", [bench.Tools.Require("qemu-img"), .. arguments], target));
        })
        {
            IsShort = isShort,
        };

    private static CommandBenchmark To(string format, string name, string question, string[] options, Target? defaults, Target? best) =>
        new(name, question, Needs, bench =>
        {
            string[] arguments = [.. options, "-O", format, bench.Inputs.GuestRaw, bench.Target];
            var qemu = bench.Tools.Require("qemu-img");
            var peers = new List<PeerCommand>();
            if (defaults is not null)
            {
                peers.Add(new("qemu-img convert", [qemu, "convert", "-f", "raw", .. arguments], defaults));
            }

            if (best is not null)
            {
                peers.Add(new("qemu-img convert -W -m 16", [qemu, "convert", "-f", "raw", "-W", "-m", "16", .. arguments], best));
            }

            return Comparing(bench, ["convert", "-f", "raw", .. arguments], [.. peers]) with { AreEqual = Equality(bench, format) };
        });

    private static CommandBenchmark Luks() =>
        new("write/luks", "How fast is a raw disk written into an encrypted qcow2 image?", [.. Needs, "cp"], bench =>
        {
            // Into an image that is there: the peer often cannot measure the machine for a key of its own.
            string[] arguments =
            [
                "convert", "-n", "-f", "raw", "--object", $"secret,id=s,data={InputImages.Password}", "--target-image-opts", bench.Inputs.GuestRaw,
                $"driver=qcow2,encrypt.key-secret=s,file.filename={bench.Target}",
            ];
            return new([bench.Platter, .. arguments], new PeerCommand("qemu-img convert", [bench.Tools.Require("qemu-img"), .. arguments], Target.AtMost(0.5)))
            {
                Source = bench.Inputs.EmptyLuks,
                Target = bench.Target,
            };
        });

    private static CommandBenchmark Random(string name, string question, Func<BenchContext, string> source, string format = "qcow2") =>
        new(name, question, ["qemu-img", "cp"], bench =>
        {
            // The step is no multiple of a cluster and goes around the disk many times.
            string[] arguments = ["bench", "-w", "-c", "40000", "-d", "32", "-s", "4k", "-S", "5246976", "-f", format, bench.Target];
            return new([bench.Platter, .. arguments], new PeerCommand("qemu-img bench", [bench.Tools.Require("qemu-img"), .. arguments]))
            {
                Source = source(bench),
                Target = bench.Target,
            };
        });

    private static CommandSet Comparing(BenchContext bench, string[] arguments, params PeerCommand[] peers) => new([bench.Platter, .. arguments], peers)
    {
        Target = bench.Target,
        AreEqual = Equality(bench, "qcow2"),
    };

    private static Func<string, string, bool> Equality(BenchContext bench, string format) =>
        (first, second) => bench.Tools.Succeeds("qemu-img", "compare", "-f", format, "-F", format, first, second);
}
