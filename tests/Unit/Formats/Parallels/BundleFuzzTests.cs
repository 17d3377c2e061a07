using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bundle;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

public class BundleFuzzTests
{
    private static readonly string[] s_texts =
    [
        "", "0", "1", "-1", "0x", "0xFFFFFFFFFFFFFFFF", "18014398509481983", "9223372036854775807", "99999999999999999999", "64", "640", "{}", "a", "\u0001", "&#x1b;",
        "{00000000-0000-0000-0000-000000000000}", "{00000001-0000-4000-8000-000000000001}", "{5fbaabe3-6958-40ff-92a7-860e329aab41}", "Plain", "Compressed",
        "<a/>", "<![CDATA[640]]>", "..", "/", "../x", "\\", "//", "C:", "C:\\", "disk.hdd", "<Image/>", "<Storage/>", "<Shot/>",
    ];

    /// <summary>Goal: whatever a descriptor says, opening it ends in a disk that can be read or in one line that names a file. Method: texts, tags and
    /// bytes of a good one are replaced, moved and repeated, by seed.</summary>
    [Fact]
    public async Task No_descriptor_makes_anything_but_a_BlockException()
    {
        var builder = new BundleBuilder("disk", 640, 64, 320);
        var root = builder.AddLayer().Fill(1, 0, 40_000);
        root.Plain = true;
        builder.AddLayer(parent: root).Fill(2, 5000, 100_000);
        builder.AddTop(root).Fill(3, 160_000, 10_000);
        var good = builder.Build();
        var text = good.DescriptorText;
        for (var seed = 1; seed <= 2500; seed++)
        {
            var random = new Random(seed);
            var bytes = Mutate(text, random);
            good.Files["DiskDescriptor.xml"] = SparseBytes.From(bytes);
            try
            {
                await using var node = await BundleReadTests.OpenAsync(good.ToDirectory(), seed % 5 == 0 ? $"{builder.Build().Layers[1].Id:B}" : null);
                await node.GetInfoAsync();
                await node.CheckAsync(_ => { });
                var at = GuestOffset.Zero;
                for (var i = 0; i < 20 && at.Value < node.VirtualSize; i++)
                {
                    var extent = await node.MapAsync(at, long.MaxValue);
                    Assert.InRange(extent.Length, 1, node.VirtualSize - at.Value);
                    await node.ReadAsync(at, new byte[Math.Min(extent.Length, 100)]);
                    at = extent.End;
                }
            }
            catch (BlockException e)
            {
                Assert.True(e.Message.StartsWith("disk.hdd", StringComparison.Ordinal) && !e.Message.Contains('\n', StringComparison.Ordinal), $"seed {seed}: {e.Message}");
            }
            catch (Exception e)
            {
                Assert.Fail($"seed {seed}: {e}\n{Encoding.UTF8.GetString(bytes)}");
            }
        }
    }

    /// <summary>Goal: whatever a descriptor and a list of snapshots say, changing the bundle either happens, and the disk reads as it should, or is one line that names a file.
    /// Method: as above, and of what can be opened for writing a snapshot is taken, applied and deleted, and the size changed.</summary>
    [Fact]
    public async Task No_descriptor_makes_anything_but_a_BlockException_when_the_bundle_is_changed()
    {
        var builder = new BundleBuilder("disk", 640, 64, 320) { WithUnknownContent = true };
        var root = builder.AddLayer().Fill(1, 0, 40_000);
        builder.AddLayer(parent: root).Fill(2, 5000, 100_000);
        builder.AddTop(root).Fill(3, 160_000, 10_000);
        var good = builder.Build();
        var names = Encoding.UTF8.GetString(new MachineBuilder("x").Add(good).AddSnapshot(root.Id, "root", default).Build().Files["Snapshots.xml"].ToArray());
        var changed = 0;
        for (var seed = 1; seed <= 1000; seed++)
        {
            var random = new Random(seed);
            var directory = MemoryDirectory.Of(good);
            var bytes = random.Next(4) == 0 ? Encoding.UTF8.GetBytes(good.DescriptorText) : Mutate(good.DescriptorText, random);
            directory.Put("DiskDescriptor.xml", bytes);
            directory.Put("Snapshots.xml", Mutate(names, random));
            if (random.Next(4) == 0)
            {
                directory.Put("DiskDescriptor.xml.changes", Mutate("file stray.hds\nsize 700\nfile disk.hdd.0.{00000001-0000-4000-8000-000000000001}.hds\n", random));
            }

            try
            {
                await using var node = await new ParallelsBundleFormat().OpenAsync(directory, new NodeOptions(), writable: true, Opening.Context());
                var content = await Opening.ReadAllAsync(node);
                await node.CreateSnapshotAsync("new", DateTimeOffset.UnixEpoch);
                Assert.Equal(content, await Opening.ReadAllAsync(node));
                await node.WriteAsync(new(random.Next((int)node.VirtualSize - 512)), new byte[512]);
                var snapshot = node.Snapshots[random.Next(node.Snapshots.Count)].Id;
                await node.ApplySnapshotAsync(SnapshotSelector.Parse(node.Snapshots[^1].Id));
                await node.DeleteSnapshotAsync(SnapshotSelector.Parse(snapshot));
                await node.ResizeAsync(node.VirtualSize + 512);
                await node.CommitAsync();
                changed++;
            }
            catch (BlockException e)
            {
                Assert.True(!e.Message.Contains('\n', StringComparison.Ordinal), $"seed {seed}: {e.Message}");
            }
            catch (Exception e)
            {
                Assert.Fail($"seed {seed}: {e}\n{Encoding.UTF8.GetString(bytes)}");
            }
        }

        Assert.True(changed > 100, $"only {changed} could be changed");
    }

    private static byte[] Mutate(string text, Random random)
    {
        for (var i = random.Next(3); i >= 0; i--)
        {
            switch (random.Next(4))
            {
                case 0:
                    // The text of some element.
                    var open = text.IndexOf('>', random.Next(text.Length)) + 1;
                    var close = open > 0 ? text.IndexOf('<', open) : -1;
                    text = close > 0 ? text[..open] + s_texts[random.Next(s_texts.Length)] + text[close..] : text;
                    break;
                case 1:
                    // Some lines again, elsewhere.
                    var lines = text.Split('\n').ToList();
                    var first = random.Next(lines.Count);
                    lines.InsertRange(random.Next(lines.Count), [.. lines.GetRange(first, random.Next(Math.Min(12, lines.Count - first)))]);
                    text = string.Join('\n', lines);
                    break;
                case 2:
                    var kept = text.Split('\n').ToList();
                    var from = random.Next(kept.Count);
                    kept.RemoveRange(from, random.Next(Math.Min(8, kept.Count - from)));
                    text = string.Join('\n', kept);
                    break;
                default:
                    text = text[..random.Next(text.Length)] + s_texts[random.Next(s_texts.Length)] + text[random.Next(text.Length)..];
                    break;
            }
        }

        var bytes = Encoding.UTF8.GetBytes(text);
        if (random.Next(4) == 0 && bytes.Length > 0)
        {
            bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
        }

        return bytes;
    }
}
