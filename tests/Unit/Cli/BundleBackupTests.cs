using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Cli;

/// <summary>A bundle whose descriptor is gone or damaged, and whose copy of it is not.</summary>
public sealed class BundleBackupTests : IDisposable
{
    private readonly TempFolder _folder = new();

    private string Bundle => _folder["vm.hdd"];

    private string Descriptor => Path.Combine(Bundle, "DiskDescriptor.xml");

    [Fact]
    public async Task A_missing_descriptor_is_restored_from_its_copy_and_the_repair_is_taken_back()
    {
        await MakeAsync();
        var before = File.ReadAllBytes(Descriptor);
        File.Delete(Descriptor);
        string[][] commands = [["info", Bundle], ["check", Bundle], ["digest", Bundle], ["snapshot", "-c", "x", Bundle]];
        foreach (var command in commands)
        {
            var run = await CliRun.PlatterAsync(command);
            Assert.NotEqual(0, run.ExitCode);
            Assert.Single(run.Error.Trim().Split('\n'));
            Assert.Contains("DiskDescriptor.xml is missing; its copy DiskDescriptor.xml.Backup is there, and 'check -r all' restores it", run.Error, StringComparison.Ordinal);
        }

        Assert.Equal((2, false), ((await CliRun.PlatterAsync("check", "-r", "leaks", Bundle)).ExitCode, File.Exists(Descriptor)));
        var repair = await CliRun.PlatterAsync("check", "-r", "all", Bundle);
        Assert.Equal(0, repair.ExitCode);
        Assert.Contains("DiskDescriptor.xml: is missing", repair.Error, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(Descriptor));
        Assert.Equal((0, string.Empty), await CheckAsync());
        Assert.Equal(0, (await CliRun.PlatterAsync("check", "--undo", Bundle + ".undo")).ExitCode);
        Assert.False(File.Exists(Descriptor));
        Assert.Equal(before, File.ReadAllBytes(Descriptor + ".Backup"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("<?xml version=\"1.0\"?><Parallels_disk_image Version=\"1.0\"><Disk_Para")]
    public async Task A_damaged_descriptor_is_restored_from_its_copy_and_the_repair_is_taken_back(string damaged)
    {
        await MakeAsync();
        var before = File.ReadAllBytes(Descriptor);
        File.WriteAllText(Descriptor, damaged);
        Assert.Equal(1, (await CliRun.PlatterAsync("check", Bundle)).ExitCode);
        var repair = await CliRun.PlatterAsync("check", "-r", "all", Bundle);
        Assert.Equal(0, repair.ExitCode);
        Assert.Contains("is not well-formed XML", repair.Error, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(Descriptor));
        Assert.Equal(0, (await CliRun.PlatterAsync("check", "--undo", Bundle + ".undo")).ExitCode);
        Assert.Equal(damaged, File.ReadAllText(Descriptor));
        Assert.Equal(0, (await CliRun.PlatterAsync("check", "-r", "all", Bundle)).ExitCode);
        File.AppendAllText(Descriptor, "\n");
        Assert.Contains("is not as the repair", (await CliRun.PlatterAsync("check", "--undo", Bundle + ".undo2")).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_copy_that_may_be_older_than_the_images_or_names_others_does_not_take_its_place()
    {
        await MakeAsync();
        File.Delete(Descriptor);
        var image = Assert.Single(Directory.GetFiles(Bundle, "*.hds"));
        File.Copy(image, Path.Combine(Bundle, "vm.hdd.0.{deadbeef-0000-4000-8000-000000000001}.hds"));
        var run = await CliRun.PlatterAsync("check", "-r", "all", Bundle);
        Assert.Equal(2, run.ExitCode);
        Assert.Contains("it does not name 'vm.hdd.0.{deadbeef-0000-4000-8000-000000000001}.hds', and may be older than that", run.Error, StringComparison.Ordinal);
        File.Delete(image);
        run = await CliRun.PlatterAsync("check", "-r", "all", Bundle);
        Assert.Equal(2, run.ExitCode);
        Assert.Contains("which is not there", run.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(Descriptor));
    }

    [Fact]
    public async Task Neither_a_descriptor_of_another_version_nor_an_unfinished_copy_is_replaced()
    {
        await MakeAsync();
        var text = File.ReadAllText(Descriptor);
        File.WriteAllText(Descriptor, text.Replace("Version=\"1.0\"", "Version=\"2.0\"", StringComparison.Ordinal));
        Assert.Contains("only version 1.0", (await CliRun.PlatterAsync("check", "-r", "all", Bundle)).Error, StringComparison.Ordinal);
        File.Move(Descriptor, Descriptor + ".unfinished");
        Assert.Contains("is an unfinished copy", (await CliRun.PlatterAsync("check", "-r", "all", Bundle)).Error, StringComparison.Ordinal);
        Assert.False(File.Exists(Descriptor));
    }

    public void Dispose() => _folder.Dispose();

    private async Task MakeAsync() => Assert.Equal(0, (await CliRun.PlatterAsync("create", "-f", "parallels-bundle", Bundle, "1M")).ExitCode);

    private async Task<(int, string)> CheckAsync()
    {
        var run = await CliRun.PlatterAsync("check", Bundle);
        return (run.ExitCode, run.Error);
    }
}
