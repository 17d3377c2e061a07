using System.Text;
using Platter.Core.Errors;
using Platter.Core.Units;
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
