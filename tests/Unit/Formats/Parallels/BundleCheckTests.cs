using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Parallels.Bundle;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

public class BundleCheckTests
{
    private const string Root = "disk.hdd.0.{00000001-0000-4000-8000-000000000001}.hds";
    private const string Top = "disk.hdd.0.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds";

    private static BundleBuilder Builder()
    {
        var builder = new BundleBuilder("disk", 640, 64);
        var root = builder.AddLayer().Fill(1, 0, 32768 * 3);
        builder.AddLayer(parent: root).Fill(1, 32768, 32768);
        builder.AddTop(root).Fill(2, 0, 32768 * 2);
        foreach (var layer in builder.Build().Layers)
        {
            layer.Placement = HostPlacement.Ascending;
        }

        return builder;
    }

    private static async Task<(CheckReport Report, List<CheckFinding> Findings)> CheckAsync(StorageDirectory directory, bool metadataOnly = true)
    {
        List<CheckFinding> findings = [];
        var context = new OpenContext
        {
            Formats = Opening.Formats, Storages = Opening.Context().Storages, Gate = new ClosedGate("tests"), MetadataOnly = metadataOnly,
        };
        await using var node = await BundleReadTests.OpenAsync(directory, context: context);
        var report = await node.CheckAsync(findings.Add);
        Assert.Equal(findings.Count(f => f.Severity == CheckSeverity.Corruption), report.Corruptions);
        return (report, findings);
    }

    private static IEnumerable<string> Lines(List<CheckFinding> findings) => findings.Select(f => $"{f.Severity} {f.File}: {f.Message}");

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_good_bundle_has_no_findings_and_the_counts_of_all_its_images(bool metadataOnly)
    {
        var (report, findings) = await CheckAsync(Builder().Build().ToDirectory(), metadataOnly);
        Assert.Empty(findings);
        Assert.Equal(new CheckReport { TotalClusters = 30, AllocatedClusters = 6 }, report);
    }

    [Fact]
    public async Task Images_of_every_snapshot_are_checked()
    {
        var bundle = Builder().Build();
        var branch = bundle.ImageName(bundle.Layers[1]);
        bundle.Files[branch].PutU32Le(64 + 16, 64 * 100);
        bundle.Files[Root].SetLength(bundle.Files[Root].Length + 1);
        var (report, findings) = await CheckAsync(bundle.ToDirectory());
        Assert.Equal(
            [
                $"Leak {Root}: space leaked at the end of the image 1",
                $"Corruption {branch}: cluster 4 is outside image: 0x320000 lies beyond the end of the file at 0x10000",
            ],
            Lines(findings));
        Assert.Equal((1, 1), (report.Corruptions, report.Leaks));
    }

    [Theory]
    [InlineData(Root)]
    [InlineData(Top)]
    public async Task A_missing_image_is_found_and_the_others_are_checked(string file)
    {
        var bundle = Builder().Build().Remove(file);
        var (report, findings) = await CheckAsync(bundle.ToDirectory());
        var number = file == Root ? 1 : 3;
        Assert.StartsWith($"Corruption {file}: Storage[1]/Image[{number}]/File at line ", Assert.Single(Lines(findings)));
        Assert.EndsWith("there is no such file in this bundle", findings[0].Message);
        Assert.Equal(20, report.TotalClusters);
    }

    [Fact]
    public async Task An_image_that_is_none_is_found()
    {
        var bundle = Builder().Build();
        bundle.Files[Top].PutU8(3, 0);
        var (_, findings) = await CheckAsync(bundle.ToDirectory());
        Assert.Equal([$"Corruption {Top}: header at 0x0: magic: Image not in Parallels format"], Lines(findings));
    }

    [Fact]
    public async Task A_dirty_image_below_the_top_hints_at_an_interrupted_merge()
    {
        var builder = Builder();
        builder.Build().Layers[0].InUse = ParallelsImageBuilder.InUseOpen;
        var (report, findings) = await CheckAsync(builder.Build().ToDirectory());
        Assert.Equal(1, report.Corruptions);
        Assert.Equal(
            [
                $"Note {Root}: is not the current state and still was open for writing: a merge of snapshots may have been interrupted",
                $"Corruption {Root}: image was not closed correctly",
            ],
            Lines(findings));
    }

    [Fact]
    public async Task Findings_give_guest_offsets_of_the_disk()
    {
        var builder = new BundleBuilder("disk", 640, 64, 320);
        builder.AddTop().Edit = (storage, image) => image.SetBat(1, storage == 1 ? 64u * 100 : 0);
        var (_, findings) = await CheckAsync(builder.Build().ToDirectory());
        Assert.Equal((320 + 64) * 512, Assert.Single(findings).GuestOffset!.Value.Value);
    }

    [Fact]
    public async Task Files_that_no_image_names_are_noted()
    {
        var bundle = Builder().Build();
        bundle.Files["disk.hdd.0.{deadbeef-0000-4000-8000-000000000001}.hds"] = new SparseBytes(5);
        var (report, findings) = await CheckAsync(bundle.ToDirectory());
        Assert.Equal(["Note disk.hdd.0.{deadbeef-0000-4000-8000-000000000001}.hds: no image of the descriptor names this file"], Lines(findings));
        Assert.Equal(0, report.Corruptions);
    }

    [Fact]
    public async Task Sizes_that_disagree_are_reported_all_three()
    {
        var builder = Builder();
        builder.Build().Layers[2].ImageSectors = 576;
        var bundle = builder.Build().EditDescriptorText(text => text.Replace("<Disk_size>640<", "<Disk_size>704<", StringComparison.Ordinal));
        var (_, findings) = await CheckAsync(bundle.ToDirectory());
        Assert.Equal(
            [
                "Corruption DiskDescriptor.xml: Storage[1] ends at sector 640, Disk_size is 704",
                "Note DiskDescriptor.xml: Cylinders x Heads x Sectors is 640, Disk_size is 704",
                $"Corruption {Top}: the image has 576 sectors, its storage 640",
            ],
            Lines(findings));
    }

    [Fact]
    public async Task An_older_snapshot_may_be_smaller_and_a_larger_one_is_only_noted()
    {
        var builder = Builder();
        builder.Build().Layers[0].ImageSectors = 320;
        var (_, findings) = await CheckAsync(builder.Build().ToDirectory());
        Assert.Empty(findings);

        builder = Builder();
        builder.Build().Layers[0].ImageSectors = 1280;
        (var report, findings) = await CheckAsync(builder.Build().ToDirectory());
        Assert.Equal([$"Note {Root}: the image has 1280 sectors, its storage 640"], Lines(findings));
        Assert.Equal(0, report.Corruptions);
    }

    [Fact]
    public async Task An_image_rounded_up_to_whole_clusters_is_fine()
    {
        var builder = new BundleBuilder("disk", 650, 64);
        builder.AddTop().Fill(1, 0, 512).ImageSectors = 704;
        var (_, findings) = await CheckAsync(builder.Build().ToDirectory());
        Assert.Empty(findings);
    }

    [Fact]
    public async Task What_the_descriptor_gets_wrong_about_its_images_is_found()
    {
        var bundle = Builder().Build().EditDescriptor(root =>
        {
            root.Descendants("Blocksize").First().Value = "128";
            root.Descendants("Image").ElementAt(1).Element("GUID")!.Value = "{00000008-0000-4000-8000-000000000008}";
            root.Descendants("Image").ElementAt(2).Element("Type")!.Value = "Plain";
        });
        var (_, findings) = await CheckAsync(bundle.ToDirectory());
        Assert.Equal(
            [
                "Corruption DiskDescriptor.xml: Storage[1] has no image for the snapshot {00000002-0000-4000-8000-000000000002}",
                "Note DiskDescriptor.xml: Storage[1]/Image[2] belongs to no snapshot ({00000008-0000-4000-8000-000000000008})",
                $"Corruption {Root}: has clusters of 64 sectors, Blocksize of Storage[1] is 128",
                "Corruption disk.hdd.0.{00000002-0000-4000-8000-000000000002}.hds: has clusters of 64 sectors, Blocksize of Storage[1] is 128",
                $"Corruption {Top}: Storage[1]/Image[3] is plain, but {{5fbaabe3-6958-40ff-92a7-860e329aab41}} is not the root",
            ],
            Lines(findings));
    }

    [Fact]
    public async Task A_snapshot_made_on_the_current_state_is_corrupt()
    {
        var builder = new BundleBuilder("disk", 640, 64);
        var top = builder.AddTop();
        builder.AddLayer(parent: top);
        builder.Top = top;
        var (_, findings) = await CheckAsync(builder.Build().ToDirectory());
        Assert.Equal(
            ["Corruption DiskDescriptor.xml: the snapshot {00000002-0000-4000-8000-000000000002} was made on the current state, which writes change"],
            Lines(findings));
    }

    [Fact]
    public async Task A_current_state_outside_the_bundle_is_corrupt()
    {
        var bundle = Builder().Build().EditDescriptor(root => root.Descendants("File").Last().Value = "../other.hdd/x.hds");
        var (report, findings) = await CheckAsync(bundle.ToDirectory());
        Assert.Equal(1, report.Corruptions);
        Assert.Contains("Corruption ../other.hdd/x.hds: Storage[1]/Image[3] is the current state's, and lies outside this bundle: nothing can be written", Lines(findings));
    }

    [Theory]
    [InlineData(64, false)]
    [InlineData(65, true)]
    public async Task A_chain_that_is_too_deep_to_be_opened_is_an_error(int layers, bool isTooDeep)
    {
        var builder = new BundleBuilder("disk", 640, 64);
        for (var i = 1; i < layers; i++)
        {
            builder.AddLayer();
        }

        builder.AddTop();
        var (report, findings) = await CheckAsync(builder.Build().ToDirectory());
        Assert.Equal(isTooDeep ? 1 : 0, report.Errors);
        Assert.Equal(
            isTooDeep ? ["Error DiskDescriptor.xml: the current state stands on a chain of 65 images, the limit is 64: it cannot be opened"] : [], Lines(findings));
    }

    [Fact]
    public async Task A_copy_of_the_descriptor_that_names_other_files_is_noted()
    {
        var bundle = Builder().Build();
        bundle.SetFile(BundleFiles.BackupName, bundle.DescriptorText.Replace(Top, "gone.hds", StringComparison.Ordinal));
        var (report, findings) = await CheckAsync(bundle.ToDirectory());
        Assert.Equal(0, report.Corruptions);
        Assert.Equal(["Note DiskDescriptor.xml.Backup: names 'gone.hds', which is not there: it is no copy of the descriptor"], Lines(findings));
    }

    [Fact]
    public async Task Progress_goes_from_nothing_to_all()
    {
        List<double> values = [];
        await using var node = await BundleReadTests.OpenAsync(Builder().Build().ToDirectory());
        await node.CheckAsync(_ => { }, new Listed(values));
        Assert.Equal(values.Order(), values);
        Assert.Equal(1, values[^1]);
    }

    private sealed class Listed(List<double> values) : IProgress<double>
    {
        public void Report(double value) => values.Add(value);
    }
}
