using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>Room on the host: a full disk leaves images without leaks, and what is given up is given back. The peer judges.</summary>
public sealed class SpaceTests : IDisposable
{
    private const int Megabyte = 1 << 20;
    private readonly TempFolder _folder = new("space");

    public SpaceTests() => File.WriteAllBytes(Content, TestContent.Make(1, 0, 20 * Megabyte));

    private string Content => _folder["content.raw"];

    [Theory]
    [InlineData("full")]
    [InlineData("falloc")]
    public void A_resize_that_finds_no_room_leaves_the_image_as_it_was(string mode)
    {
        using var small = SmallFileSystem.RequireOrSkip(_folder, 24);
        OfflineInterop.Create(small["a"], "compat=1.1", "10M");
        OfflineInterop.Write(small["a"], "write -P 5 0 10M");
        var length = new FileInfo(small["a"]).Length;
        Assert.Contains("No space left", PlatterCli.Run("resize", $"--preallocation={mode}", small["a"], "+30M").Expect(1).Error, StringComparison.Ordinal);
        Check(small["a"]);
        Assert.InRange(new FileInfo(small["a"]).Length, 1, length + 65536);
    }

    [Fact]
    public void A_rebase_and_a_commit_that_find_no_room_leak_nothing()
    {
        using var small = SmallFileSystem.RequireOrSkip(_folder, 12);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-b", Content, "-F", "raw", small["top"]);
        Assert.Contains("No space left", PlatterCli.Run("rebase", "-b", string.Empty, small["top"]).Expect(1).Error, StringComparison.Ordinal);
        Check(small["top"]);
        OfflineInterop.ReadsAs(small["top"], Content);
        File.Delete(small["top"]);
        OfflineInterop.Create(small["base"], "compat=1.1", "20M");
        OfflineInterop.Create(_folder["over"], "compat=1.1", "20M", small["base"]);
        ToolRunner.RunChecked("qemu-img", "convert", "-n", "-O", "qcow2", Content, _folder["over"]);
        Assert.Contains("No space left", PlatterCli.Run("commit", _folder["over"]).Expect(1).Error, StringComparison.Ordinal);
        Check(small["base"]);
        OfflineInterop.ReadsAs(_folder["over"], Content);
    }

    [Theory]
    [InlineData("create", "-f", "qcow2", "-o", "preallocation=full", "{0}", "20M")]
    [InlineData("create", "-f", "raw", "-o", "preallocation=falloc", "{0}", "20M")]
    [InlineData("convert", "-O", "parallels", "{1}", "{0}")]
    [InlineData("convert", "-O", "parallels-bundle", "{1}", "{0}.hdd")]
    [InlineData("convert", "-O", "qcow2", "--snapshots=internal", "{1}", "{0}")]
    public void A_full_disk_is_told_with_what_was_done_in_which_file_and_where(params string[] args)
    {
        using var small = SmallFileSystem.RequireOrSkip(_folder, 3);
        var error = PlatterCli.Run([.. args.Select(arg => arg.Replace("{0}", small["x"], StringComparison.Ordinal).Replace("{1}", Content, StringComparison.Ordinal))]).Expect(1).Error;
        Assert.Matches($"^platter: {System.Text.RegularExpressions.Regex.Escape(small["x"])}[^ ]*: Could not (write|reserve) [0-9]+ bytes at 0x[0-9a-f]+: No space left on device", error);
    }

    [Fact]
    public void A_bundle_that_finds_no_room_is_named_once()
    {
        using var small = SmallFileSystem.RequireOrSkip(_folder, 3);
        small.Fill();
        var error = PlatterCli.Run("create", "-f", "parallels-bundle", small["x.hdd"], "10M").Expect(1).Error;
        Assert.Matches($"^platter: {System.Text.RegularExpressions.Regex.Escape(small["x.hdd"])}/[^ ]*: Could not [^:]*: No space left on device\n$", error);
        Assert.False(Path.Exists(small["x.hdd"]));
    }

    [Fact]
    public void A_copy_that_found_no_room_fits_when_there_is_some()
    {
        using var small = SmallFileSystem.RequireOrSkip(_folder, 12);
        PlatterCli.Run("convert", "-O", "qcow2", Content, small["x"]).Expect(1);
        small.Resize(22);
        PlatterCli.Run("convert", "--resume", "-O", "qcow2", Content, small["x"]).Expect();
        Check(small["x"]);
        OfflineInterop.ReadsAs(small["x"], Content);
    }

    [Fact]
    public void Snapshots_and_bitmaps_can_be_deleted_on_a_full_disk()
    {
        using var small = SmallFileSystem.RequireOrSkip(_folder, 24);
        OfflineInterop.Create(small["a"], "compat=1.1", "20M");
        OfflineInterop.Write(small["a"], "write -P 1 0 8M");
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "one", small["a"]);
        OfflineInterop.Write(small["a"], "write -P 2 0 4M");
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "two", small["a"]);
        OfflineInterop.Write(small["a"], "write -P 3 0 2M");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", small["a"], "first");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", small["a"], "second");
        small.Fill();
        PlatterCli.Run("bitmap", "--remove", small["a"], "first").Expect();
        Check(small["a"]);
        PlatterCli.Run("bitmap", "--remove", small["a"], "second").Expect();
        Check(small["a"]);
        PlatterCli.Run("snapshot", "-d", "one", small["a"]).Expect();
        Check(small["a"]);
        PlatterCli.Run("snapshot", "-d", "two", small["a"]).Expect();
        Check(small["a"]);
        OfflineInterop.Reads(small["a"], "read -P 3 0 2M", "read -P 2 2M 2M", "read -P 1 4M 4M");
    }

    [Fact]
    public void What_is_given_up_goes_back_to_the_host()
    {
        var image = _folder["a"];
        ToolRunner.RunChecked("qemu-img", "convert", "-O", "qcow2", Content, image);
        PlatterCli.Run("io", "-f", "qcow2", "-d", "ignore", "-c", "discard 0 8M", "-c", "write -z -u 0 4M", image).Expect();
        Assert.InRange(Allocated(image), 20 * Megabyte, 21 * Megabyte);
        PlatterCli.Run("io", "-f", "qcow2", "-c", "discard 0 4M", "-c", "write -z -u 4M 4M", image).Expect();
        Check(image);
        Assert.InRange(Allocated(image), 12 * Megabyte, 13 * Megabyte);
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "one", image);
        OfflineInterop.Write(image, "write -P 7 10M 10M");
        Assert.InRange(Allocated(image), 22 * Megabyte, 23 * Megabyte);
        PlatterCli.Run("snapshot", "-d", "one", image).Expect();
        Check(image);
        Assert.InRange(Allocated(image), 12 * Megabyte, 13 * Megabyte);
        PlatterCli.Run("resize", "--shrink", image, "1M").Expect();
        Check(image);
        Assert.InRange(Allocated(image), 0, Megabyte);
    }

    public void Dispose() => _folder.Dispose();

    private static void Check(string image) => ToolRunner.RunChecked("qemu-img", "check", "-f", "qcow2", image);

    private static long Allocated(string image) => 512 * long.Parse(ToolRunner.RunChecked("stat", "-c", "%b", image).Text, System.Globalization.CultureInfo.InvariantCulture);
}
