namespace Platter.Bench.Rows;

/// <summary>What a script pays for calling us at all.</summary>
internal static class StartRows
{
    public static Benchmark[] All { get; } =
    [
        new CommandBenchmark("start", "How long does the program take to start and end (--version)?", ["qemu-img"], bench => new(
            [bench.Platter, "--version"],
            new PeerCommand("qemu-img", [bench.Tools.Require("qemu-img"), "--version"], Target.AtMost(0.7)))) { IsShort = true },
        new CommandBenchmark("info", "How long does it take to tell what a qcow2 image is?", ["qemu-img", "mkfs.ext4"], bench => new(
            [bench.Platter, "info", bench.Inputs.GuestQcow2],
            new PeerCommand("qemu-img", [bench.Tools.Require("qemu-img"), "info", bench.Inputs.GuestQcow2], Target.AtMost(0.7)))) { IsShort = true },
    ];
}
