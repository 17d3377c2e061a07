using System.Text.Json.Nodes;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Interop.Formats.Qcow2Interop;

namespace Platter.Tests.Interop.Formats;

/// <summary>What a repair leaves: the guest sees what it saw, the real tool finds what our check finds, which is nothing where nothing was left out, and
/// an undo brings the file back byte for byte.</summary>
/// <remarks>Images are broken by changing metadata at random, as in <see cref="Qcow2CheckTests"/>; the same variables choose rounds and seed.</remarks>
public sealed class Qcow2RepairTests
{
    public static TheoryData<string> Kinds => Qcow2CheckTests.Kinds;

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Broken_images_are_repaired_and_the_guest_sees_what_it_saw(string kind)
    {
        using var folder = new TempFolder();
        var good = folder["good.qcow2"];
        Qcow2CheckTests.Makers[kind](good, folder);
        var bytes = File.ReadAllBytes(good);
        var rounds = int.Parse(Environment.GetEnvironmentVariable("PLATTER_CHECK_ROUNDS") ?? "12");
        var first = int.Parse(Environment.GetEnvironmentVariable("PLATTER_CHECK_SEED") ?? "1");
        var failures = new List<string>();
        var repaired = 0;
        for (var seed = first; seed < first + rounds; seed++)
        {
            var broken = bytes.ToArray();
            var random = new Random(seed);
            var said = $"{kind}, seed {seed}: ";
            for (var changes = random.Next(1, 4); changes > 0; changes--)
            {
                broken = MetadataBreaker.Break(broken, random, out var change);
                said += change;
            }

            try
            {
                repaired += await RepairAsync(folder, broken, kind, seed % 4 == 0 ? RepairMode.Leaks : RepairMode.All) ? 1 : 0;
            }
            catch (Exception e)
            {
                failures.Add(e is Xunit.Sdk.XunitException ? $"{said}\n{e.Message}" : $"{said}\n{e}");
            }
        }

        Assert.True(failures.Count == 0, $"{failures.Count} of {rounds} failed\n{string.Join("\n=====\n", failures.Take(3))}");
        Assert.True(repaired > rounds / 4, $"only {repaired} images were repaired");
    }

    private static async Task<bool> RepairAsync(TempFolder folder, byte[] broken, string kind, RepairMode mode)
    {
        var (image, undo) = (folder["a.qcow2"], folder["a.undo"]);
        File.Delete(undo);
        File.WriteAllBytes(image, broken);
        var before = await ContentAsync(image, kind);
        var findings = new List<string>();
        RepairReport report;
        try
        {
            await using var disk = await UnlockedAsync(async () => await Disk.OpenAsync(image, new DiskOpenOptions { ForRepair = true }));
            report = await disk.RepairAsync(new(mode) { UndoFile = undo }, f => findings.Add($"{f.Severity}{(f.IsRepaired ? " (repaired)" : string.Empty)}: {f.Message}"));
        }
        catch (BlockException)
        {
            Assert.Equal(broken, File.ReadAllBytes(image));
            Assert.False(File.Exists(undo));
            return false;
        }

        Assert.Equal(report.IsChanged, File.Exists(undo));
        try
        {
            var after = await ContentAsync(image, kind);
            for (var i = 0; i < before.Count; i++)
            {
                Assert.True(before[i] is null || after[i]?.AsSpan().SequenceEqual(before[i]) == true, $"guest bytes at 0x{(long)i * ChunkBytes:x} have changed");
            }

            await using (var disk = await Disk.OpenAsync(image, new DiskOpenOptions { ForceShare = true, MetadataOnly = true }))
            {
                var check = await disk.CheckAsync(static _ => { });
                Assert.Equal(report.Check, check);
            }

            AssertPeerAgrees(image, kind, report.Check);
            if (mode == RepairMode.All)
            {
                Assert.Equal(0, report.Check.Leaks);
                Assert.True(report.Check.Corruptions == 0 || findings.Exists(f => f.StartsWith("Corruption:", StringComparison.Ordinal)));
            }
        }
        catch (Xunit.Sdk.XunitException e)
        {
            throw new Xunit.Sdk.XunitException($"{e.Message}\n{report}\n{string.Join('\n', findings.Take(40))}");
        }

        if (report.IsChanged)
        {
            await UnlockedAsync(async () => await Disk.UndoRepairAsync(undo));
            Assert.Equal(broken, File.ReadAllBytes(image));
        }

        return report.IsChanged;
    }

    // A process that another test starts holds our locks for the moment between fork and exec.
    private static async Task<T> UnlockedAsync<T>(Func<Task<T>> open)
    {
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                return await open();
            }
            catch (BlockException e) when (e.Kind == BlockErrorKind.Locked && attempt < 200)
            {
                await Task.Delay(10);
            }
        }
    }

    private static void AssertPeerAgrees(string image, string kind, CheckReport report)
    {
        var result = kind == "luks"
            ? ToolRunner.Run(
                "qemu-img", "check", "--output=json", "--object", "secret,id=s,data=abc", "--image-opts", $"driver=qcow2,file.filename={image},encrypt.key-secret=s")
            : ToolRunner.Run("qemu-img", "check", "--output=json", image);
        if (result.Text.Length == 0)
        {
            // The peer cannot open it: for what is wrong elsewhere, which a repair does not touch.
            return;
        }

        var theirs = JsonNode.Parse(result.Text)!;
        Assert.Equal(
            (report.Corruptions, report.Leaks, report.Errors),
            (theirs["corruptions"]?.GetValue<long>() ?? 0, theirs["leaks"]?.GetValue<long>() ?? 0, theirs["check-errors"]?.GetValue<long>() ?? 0));
    }

    private const int ChunkBytes = 512;

    // What can be read, in pieces; null for one that cannot.
    private static async Task<List<byte[]?>> ContentAsync(string image, string kind)
    {
        var result = new List<byte[]?>();
        try
        {
            await using var disk = await Disk.OpenAsync(image, new DiskOpenOptions { ForceShare = true, Password = kind == "luks" ? "abc" : null });
            for (long at = 0; at < disk.Size; at += ChunkBytes)
            {
                var buffer = new byte[Math.Min(ChunkBytes, disk.Size - at)];
                try
                {
                    await disk.ReadAsync(at, buffer);
                    result.Add(buffer);
                }
                catch (BlockException)
                {
                    result.Add(null);
                }
            }
        }
        catch (BlockException)
        {
            // It cannot be opened: there is nothing to compare.
        }

        return result;
    }
}
