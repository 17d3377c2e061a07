using Platter.Bench.Inputs;

namespace Platter.Bench.Rows;

/// <summary>Making and writing Parallels images, and bundles with their snapshots. Targets in memory, as for the other copies.</summary>
internal static class ParallelsRows
{
    private static readonly string[] Needs = ["qemu-img", "mkfs.ext4"];

    public static Benchmark[] All { get; } =
    [
        new CommandBenchmark("parallels/write", "How fast does a raw disk become a Parallels image?", Needs, bench =>
        {
            string[] arguments = ["convert", "-f", "raw", "-O", "parallels", bench.Inputs.GuestRaw, bench.Target];
            return new([bench.Platter, .. arguments], new PeerCommand("qemu-img convert", [bench.Tools.Require("qemu-img"), .. arguments], Target.AtMost(0.65)))
            {
                Target = bench.Target,
                AreEqual = (first, second) => bench.Tools.Succeeds("qemu-img", "compare", "-f", "parallels", "-F", "parallels", first, second),
            };
        }),
        Random("parallels/4k-empty", "How fast are 4 KiB writes all over an empty Parallels image?", bench => bench.Inputs.EmptyHds),
        Random("parallels/4k-full", "Over one in which everything is allocated?", bench => bench.Inputs.NoiseHds),
        new CommandBenchmark("bundle/snapshots", "What do ten snapshots cost when a bundle becomes qcow2, against a copy of the same bytes without any?", [], bench => new(
            [bench.Platter, "convert", "--snapshots=internal", "-O", "qcow2", bench.Inputs.Bundle, bench.Target],
            new PeerCommand("platter convert, no snapshots", [bench.Platter, "convert", "-f", "raw", "-O", "qcow2", bench.Inputs.BundleBytes, bench.Target]))
        {
            Target = bench.Target,

            // Not the same disk: the same number of bytes.
            AreEqual = static (_, _) => true,
        }),
    ];

    private static CommandBenchmark Random(string name, string question, Func<BenchContext, string> source) =>
        new(name, question, ["qemu-img", "cp"], bench =>
        {
            string[] arguments = ["bench", "-w", "-c", "40000", "-d", "32", "-s", "4k", "-S", "5246976", "-f", "parallels", bench.Target];
            return new([bench.Platter, .. arguments], new PeerCommand("qemu-img bench", [bench.Tools.Require("qemu-img"), .. arguments]))
            {
                Source = source(bench),
                Target = bench.Target,
            };
        });
}
