namespace Platter.Bench.Rows;

/// <summary>Bundles with their snapshots, which no peer knows. Targets in memory, as for the other copies.</summary>
internal static class BundleRows
{
    public static Benchmark[] All { get; } =
    [
        new CommandBenchmark("bundle/snapshots", "What do ten snapshots cost when a bundle becomes qcow2, against a copy of the same bytes without any?", [], bench => new(
            [bench.Platter, "convert", "--snapshots=internal", "-O", "qcow2", bench.Inputs.Bundle, bench.Target],
            new PeerCommand("platter convert, no snapshots", [bench.Platter, "convert", "-f", "raw", "-O", "qcow2", bench.Inputs.BundleBytes, bench.Target]))
        {
            Target = bench.Target,

            // Not the same disk: the same number of bytes.
            AreEqual = static (_, _) => true,
        }),
    ];
}
