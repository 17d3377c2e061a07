using System.Text;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Hostile;

/// <summary>Descriptors that are bombs.</summary>
public sealed class HostileXmlTests
{
    public static TheoryData<string> Bombs => [.. s_bombs.Keys];

    private static readonly Dictionary<string, Func<string, string>> s_bombs = new()
    {
        ["billion laughs"] = good => Laughs() + Body(good).Replace("<Name>", "<Name>&i;", StringComparison.Ordinal),
        ["external entity"] = good => "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/hostname\">]>"
            + Body(good).Replace("<Name>", "<Name>&e;", StringComparison.Ordinal),
        ["external DTD"] = good => "<?xml version=\"1.0\"?><!DOCTYPE x SYSTEM \"http://127.0.0.1:9/x.dtd\">" + Body(good),
        ["a million elements"] = good => good.Replace("</StorageData>", string.Concat(Enumerable.Repeat("<a/>", 1_000_000)) + "</StorageData>", StringComparison.Ordinal),
        ["elements up to the size limit"] = good => good.Replace(
            "</StorageData>", string.Concat(Enumerable.Repeat("<a/>", 1_040_000)) + "</StorageData>", StringComparison.Ordinal),
        ["deep nesting"] = good => good.Replace(
            "</StorageData>",
            string.Concat(Enumerable.Repeat("<a>", 300_000)) + string.Concat(Enumerable.Repeat("</a>", 300_000)) + "</StorageData>",
            StringComparison.Ordinal),
        ["never closed nesting"] = good => good.Replace("</StorageData>", string.Concat(Enumerable.Repeat("<a>", 1_000_000)), StringComparison.Ordinal),
        ["a text of 100 MiB"] = good => good.Replace("<Name>", "<Name>" + new string('x', 100 << 20), StringComparison.Ordinal),
        ["a text of nearly 4 MiB"] = good => good.Replace("<Name>", "<Name>" + new string('x', (4 << 20) - 20_000), StringComparison.Ordinal),
        ["many attributes"] = good => good.Replace(
            "<StorageData>", "<StorageData " + string.Concat(Enumerable.Range(0, 100_000).Select(i => $"a{i}='' ")) + ">", StringComparison.Ordinal),
        ["many shots"] = good => good.Replace("</Snapshots>", Shots(60_000, i => i - 1) + "</Snapshots>", StringComparison.Ordinal),
        ["a loop of many shots"] = good => good.Replace("</Snapshots>", Shots(10_000, i => (i + 9_999) % 10_000) + "</Snapshots>", StringComparison.Ordinal),
        ["many storages"] = good => good.Replace("<StorageData>", "<StorageData>" + Storages(20_000), StringComparison.Ordinal),
        ["many images"] = good => good.Replace("</Image>", "</Image>" + Images(30_000), StringComparison.Ordinal),
        ["a character reference of nothing"] = good => good.Replace("<Name>", "<Name>&#0;", StringComparison.Ordinal),
        ["escapes in every text"] = good => good.Replace("Compressed", "&#x9b;31m&#x202e;", StringComparison.Ordinal),
    };

    [Theory]
    [MemberData(nameof(Bombs))]
    public void A_descriptor_that_is_a_bomb(string bomb)
    {
        using var folder = new TempFolder("hostile");
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddLayer().FillRandom(1, 0.5);
        builder.AddTop().FillRandom(2, 0.5);
        var path = builder.Build().SaveTo(folder.Path);
        var descriptor = Path.Combine(path, "DiskDescriptor.xml");
        File.WriteAllText(descriptor, s_bombs[bomb](File.ReadAllText(descriptor)));

        foreach (var command in (string[][])[["info", path], ["info", "--output=json", path], ["info", descriptor], ["check", path]])
        {
            var run = HostileRun.Of(command);
            if (run.ExitCode == 1 && command[0] == "info")
            {
                run.Refused("DiskDescriptor.xml");
            }
        }

        var convert = HostileRun.Of("convert", "-O", "raw", path, folder["out.raw"]);
        if (convert.ExitCode != 0)
        {
            convert.Refused("DiskDescriptor.xml");
        }
    }

    [Theory]
    [MemberData(nameof(Bombs))]
    public void Names_of_snapshots_that_are_a_bomb_do_not_keep_the_disk_from_being_read(string bomb)
    {
        using var folder = new TempFolder("hostile");
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddTop().FillRandom(2, 0.5);
        var path = new MachineBuilder("vm").Add(builder.Build()).AddSnapshot(BundleBuilder.PredefinedTop, "now", new DateTime(2024, 1, 1)).Build().SaveTo(folder.Path);
        var descriptor = File.ReadAllText(Path.Combine(path, "disk.hdd", "DiskDescriptor.xml"));
        File.WriteAllText(Path.Combine(path, "Snapshots.xml"), s_bombs[bomb](descriptor));

        HostileRun.Of("info", path).Done();
    }

    private static string Body(string good) => good[(good.IndexOf("?>", StringComparison.Ordinal) + 2)..];

    private static string Laughs()
    {
        var text = new StringBuilder("<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"ha\">");
        for (var c = 'b'; c <= 'i'; c++)
        {
            text.Append($"<!ENTITY {c} \"").Append(string.Concat(Enumerable.Repeat($"&{(char)(c - 1)};", 10))).Append("\">");
        }

        return text.Append("]>").ToString();
    }

    private static string Id(int number) => $"{{{number:x8}-1111-4000-8000-000000000000}}";

    private static string Shots(int count, Func<int, int> parent)
    {
        var text = new StringBuilder();
        for (var i = 1; i <= count; i++)
        {
            text.Append($"<Shot><GUID>{Id(i)}</GUID><ParentGUID>{Id(parent(i) + 1)}</ParentGUID></Shot>");
        }

        return text.ToString();
    }

    private static string Images(int count)
    {
        var text = new StringBuilder();
        for (var i = 1; i <= count; i++)
        {
            text.Append($"<Image><GUID>{Id(i)}</GUID><Type>Compressed</Type><File>x{i}</File></Image>");
        }

        return text.ToString();
    }

    private static string Storages(int count)
    {
        var text = new StringBuilder();
        for (var i = 0; i < count; i++)
        {
            text.Append($"<Storage><Start>{i + 640}</Start><End>{i + 641}</End><Image><GUID>{Id(i)}</GUID><Type>Plain</Type><File>y</File></Image></Storage>");
        }

        return text.ToString();
    }
}
