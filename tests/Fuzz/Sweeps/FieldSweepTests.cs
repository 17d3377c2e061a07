using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Fuzz;

/// <summary>Every field of every structure at 0, 1, its limits, their neighbours and at wrap-around: refused in one line, or legal.</summary>
public sealed class FieldSweepTests
{
    public static TheoryData<int> Qcow2Images => [.. Enumerable.Range(0, Qcow2Corpus.Built().Count())];

    public static TheoryData<int> ParallelsImages => [.. Enumerable.Range(0, ParallelsCorpus.All.Count)];

    [Theory]
    [MemberData(nameof(Qcow2Images))]
    public async Task Every_qcow2_field_at_every_extreme(int image)
    {
        var seed = Qcow2Corpus.Built().ElementAt(image);
        await Sweep.RunAsync(Sweep.Fields(seed, Qcow2Fields.Find(seed.MainBytes, maxEntries: 3)), "qcow2");
    }

    [Theory]
    [MemberData(nameof(ParallelsImages))]
    public async Task Every_Parallels_field_at_every_extreme(int image)
    {
        var seed = ParallelsCorpus.All[image];
        await Sweep.RunAsync(Sweep.Fields(seed, ParallelsFields.Find(seed.MainBytes, maxEntries: 4), input => ParallelsFields.FixChecksum(input.MainBytes)), "parallels");
    }

    [Theory]
    [InlineData("Disk_size")]
    [InlineData("Cylinders")]
    [InlineData("Heads")]
    [InlineData("Sectors")]
    [InlineData("Padding")]
    [InlineData("Start")]
    [InlineData("End")]
    [InlineData("Blocksize")]
    [InlineData("GUID")]
    [InlineData("ParentGUID")]
    [InlineData("TopGUID")]
    [InlineData("Type")]
    [InlineData("File")]
    public async Task Every_number_and_name_of_a_descriptor_at_every_extreme(string element)
    {
        await Sweep.RunAsync(Cases(), null);

        IEnumerable<(string, FuzzInput)> Cases()
        {
            string[] values =
            [
                "", " ", "0", "1", "-1", "2147483647", "2147483648", "4294967295", "4294967296", "9223372036854775807", "9223372036854775808",
                "18446744073709551615", "18446744073709551616", "18014398509481983", "18014398509481984", "36028797018963967", "0x", "0x1", "0xffffffffffffffff",
                "0x10000000000000000", "01", "1.0", "1e3", "\u0661", "abc", "{}", "{00000000-0000-0000-0000-000000000000}", BundleBuilder.BackupId.ToString("B"),
                BundleBuilder.PredefinedTop.ToString("B"), "..", "../x", "/", "/etc/passwd", "DiskDescriptor.xml", ".", new string('9', 100_000), new string('/', 5000),
            ];
            for (var nth = 0; nth < 2; nth++)
            {
                foreach (var value in values)
                {
                    var builder = new BundleBuilder("disk", 8 * 20, 8, 8 * 10) { WriteTopGuid = true };
                    builder.AddLayer().FillRandom(1, 0.4);
                    builder.AddTop().FillRandom(2, 0.4);
                    var bundle = builder.Build().EditDescriptor(root =>
                    {
                        var all = root.Descendants(element).ToArray();
                        all[Math.Min(nth, all.Length - 1)].Value = value;
                    });
                    yield return ($"{element} {nth} = {value[..Math.Min(value.Length, 40)]}", new FuzzInput(
                        "disk.hdd/DiskDescriptor.xml", bundle.Files.Select(f => KeyValuePair.Create($"disk.hdd/{f.Key}", f.Value))) { OpenName = "disk.hdd" });
                }
            }
        }
    }
}
