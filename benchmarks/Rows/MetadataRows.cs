namespace Platter.Bench.Rows;

/// <summary>Work on tables, and comparing.</summary>
internal static class MetadataRows
{
    public static Benchmark[] All { get; } =
    [
        new CommandBenchmark("check", "How fast is a 1 TiB qcow2 image with 200 000 clusters checked?", ["qemu-img"], bench => new(
            [bench.Platter, "check", bench.Inputs.Large],
            new PeerCommand("qemu-img check", [bench.Tools.Require("qemu-img"), "check", bench.Inputs.Large], Target.AtMost(0.25)))),
        new CommandBenchmark("repair", "How fast is it repaired (check -r all) after 2000 of its refcounts were lost?", ["qemu-img", "cp"], bench =>
        {
            var target = bench.Target;
            return new(
                [bench.Platter, "check", "-r", "all", target],
                new PeerCommand("qemu-img check -r all", [bench.Tools.Require("qemu-img"), "check", "-r", "all", target], Target.AtMost(0.5)))
            {
                Source = bench.Inputs.LargeDamaged, Target = target,
            };
        }),
        new CommandBenchmark("map", "How fast are its 400 000 extents listed (--output=json)?", ["qemu-img"], bench => new(
            [bench.Platter, "map", "--output=json", bench.Inputs.Large],
            new PeerCommand("qemu-img map", [bench.Tools.Require("qemu-img"), "map", "--output=json", bench.Inputs.Large], Target.AtMost(0.15)))),
        new CommandBenchmark("compare", "How fast are two equal disks compared, qcow2 with raw?", ["qemu-img", "mkfs.ext4"], bench => new(
            [bench.Platter, "compare", bench.Inputs.GuestQcow2, bench.Inputs.GuestRaw],
            new PeerCommand("qemu-img compare", [bench.Tools.Require("qemu-img"), "compare", bench.Inputs.GuestQcow2, bench.Inputs.GuestRaw]))),
    ];
}
