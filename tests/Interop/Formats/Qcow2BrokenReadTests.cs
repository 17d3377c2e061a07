using Platter.Core.Errors;
using Platter.Host.Files;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Interop.Formats.Qcow2Interop;

namespace Platter.Tests.Interop.Formats;

/// <summary>Of an image with broken metadata we read what the real tool reads, or say that we cannot. We never read something else.</summary>
/// <remarks><c>PLATTER_CHECK_SEED</c> and <c>PLATTER_CHECK_ROUNDS</c> replay and extend.</remarks>
public sealed class Qcow2BrokenReadTests
{
    // A table that lies beyond the end of the file was cut off. The peer reads zeros there, as if nothing had ever been written.
    // The bitmap of a compressed cluster is unused, yet it must be 0: somebody wrote an entry of the wrong kind.
    private static readonly string[] s_strict = ["lies beyond the end of the file", "which must be 0"];

    // The length of an END extension means nothing, and neither does the offset of a snapshot table without snapshots.
    private static readonly string[] s_lenient = ["Header extension too large", "Snapshot table offset invalid"];

    public static TheoryData<string> Kinds =>
        [.. Qcow2CheckTests.Makers.Keys.Where(k => k is not ("luks" or "empty" or "bitmaps"))];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Broken_images_read_as_with_the_peer_or_not_at_all(string kind)
    {
        using var folder = new TempFolder();
        var good = folder["good.qcow2"];
        Qcow2CheckTests.Makers[kind](good, folder);
        var bytes = File.ReadAllBytes(good);
        var rounds = int.Parse(Environment.GetEnvironmentVariable("PLATTER_CHECK_ROUNDS") ?? "15");
        var first = int.Parse(Environment.GetEnvironmentVariable("PLATTER_CHECK_SEED") ?? "1");
        var (image, raw) = (folder["a.qcow2"], folder["a.raw"]);
        var failures = new List<string>();
        for (var seed = first; seed < first + rounds; seed++)
        {
            var broken = bytes.ToArray();
            var random = new Random(seed);
            var said = $"{kind}, seed {seed}: ";
            for (var changes = random.Next(1, 3); changes > 0; changes--)
            {
                broken = MetadataBreaker.Break(broken, random, out var change);
                said += change;
            }

            File.WriteAllBytes(image, broken);
            var theirs = ToolRunner.Run("qemu-img", "convert", "-O", "raw", image, raw);
            try
            {
                await using var node = await OpenAsync(image);
                if (theirs.ExitCode != 0)
                {
                    await ReadAllAsync(node);
                    if (s_lenient.Any(w => theirs.Error.Contains(w, StringComparison.Ordinal)))
                    {
                        continue;
                    }

                    failures.Add($"{said}\nwe read it, the peer does not: {theirs.Error}");
                    continue;
                }

                await using var expected = FileStorage.Open(raw);
                await AssertSameBytesAsync(expected, node);
            }
            catch (BlockException e)
            {
                if (theirs.ExitCode == 0 && !s_strict.Any(w => e.Message.Contains(w, StringComparison.Ordinal)))
                {
                    failures.Add($"{said}\nthe peer reads it, we do not: {e.Message}");
                }
            }
            catch (Xunit.Sdk.XunitException e)
            {
                failures.Add($"{said}\n{e.Message}");
            }
        }

        Assert.True(failures.Count == 0, $"{failures.Count} of {rounds} differ\n{string.Join("\n=====\n", failures.Take(6))}");
    }

    private static async Task ReadAllAsync(Platter.Core.Graph.BlockNode node)
    {
        var buffer = new byte[1 << 20];
        for (long at = 0; at < node.VirtualSize; at += buffer.Length)
        {
            await node.ReadAsync(new(at), buffer.AsMemory(0, (int)Math.Min(buffer.Length, node.VirtualSize - at)));
        }
    }
}
