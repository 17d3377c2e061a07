using System.Diagnostics;
using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Host.Files;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Host;

public sealed class FileStorageTests
{
    private static bool Portable => Environment.GetEnvironmentVariable("PLATTER_PORTABLE") == "1";

    [Fact]
    public async Task What_is_written_is_read_and_the_end_is_short()
    {
        using var folder = new TempFolder();
        await using (var file = FileStorage.OpenForReplacing(folder["a"]))
        {
            file.Replace(10_000);
            await file.WriteAsync(new HostOffset(9_000), new byte[] { 1, 2, 3 });
            await file.FlushAsync();
        }

        await using var again = FileStorage.Open(folder["a"]);
        var buffer = new byte[2000];
        Assert.Equal(1000, await again.ReadAsync(new HostOffset(9_000), buffer));
        Assert.Equal([1, 2, 3, 0], buffer[..4]);
        Assert.Equal(0, await again.ReadAsync(new HostOffset(10_000), buffer));
        Assert.Equal(10_000, again.Length);
        Assert.True(again.IsReadOnly);
    }

    [Fact]
    public async Task Bypassing_leaves_nothing_in_the_hosts_cache()
    {
        Assert.SkipWhen(Portable, "the portable way cannot");
        using var folder = new TempFolder();
        var content = new byte[1 << 20];
        new Random(7).NextBytes(content);
        await using (var plain = FileStorage.OpenForReplacing(folder["a"]))
        {
            await plain.WriteAsync(HostOffset.Zero, content);
            await plain.FlushAsync();
            Assert.True(plain.TryReadNow(new HostOffset(4096), new byte[512], out _));
            plain.DropCache();
            Assert.SkipWhen(plain.TryReadNow(new HostOffset(512 << 10), new byte[512], out _), "this file system is memory");
        }

        await using var file = FileStorage.Open(folder["a"], writable: true);
        file.BypassesCache = true;
        await file.WriteAsync(new HostOffset(5), new byte[3000]);
        content.AsSpan(5, 3000).Clear();
        await file.FlushAsync();
        var found = new byte[content.Length];
        Assert.Equal(found.Length, await file.ReadAsync(HostOffset.Zero, found));
        Assert.Equal(content, found);

        await using var other = FileStorage.Open(folder["a"]);
        foreach (var at in (int[])[0, 64 << 10, 1020 << 10])
        {
            // The kernel drops what was written when the device has it, on a thread of its own.
            var isThere = true;
            for (var i = 0; i < 200 && isThere; i++)
            {
                isThere = other.TryReadNow(new HostOffset(at), new byte[512], out _);
                await Task.Delay(isThere ? 10 : 0, TestContext.Current.CancellationToken);
            }

            Assert.False(isThere, $"0x{at:x} is still in memory");
        }
    }

    [Fact]
    public async Task Holes_are_told_from_data()
    {
        Assert.SkipWhen(Portable, "the portable way cannot see holes");
        using var folder = new TempFolder();
        await using var file = FileStorage.OpenForReplacing(folder["a"]);
        file.Replace(16 << 20);
        await file.WriteAsync(new HostOffset(4 << 20), new byte[1 << 20]);
        var hole = await file.MapAsync(default, 16 << 20);
        Assert.Equal((4L << 20, true), (hole.Length, hole.ReadsZero));
        var data = await file.MapAsync(new HostOffset(4 << 20), 16 << 20);
        Assert.Equal((1L << 20, false), (data.Length, data.ReadsZero));
        var rest = await file.MapAsync(new HostOffset(5 << 20), 11 << 20);
        Assert.Equal((11L << 20, true), (rest.Length, rest.ReadsZero));
        Assert.InRange(file.AllocatedSize!.Value, 1 << 20, 2 << 20);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Zeroed_ranges_read_as_zeros_and_grow_the_file(bool mayUnmap)
    {
        using var folder = new TempFolder();
        await using var file = FileStorage.OpenForReplacing(folder["a"]);
        await file.WriteAsync(default, Enumerable.Repeat((byte)9, 300_000).ToArray());
        await file.WriteZeroesAsync(new HostOffset(100_000), 300_000, mayUnmap);
        Assert.Equal(400_000, file.Length);
        var all = new byte[400_000];
        await file.ReadAsync(default, all);
        Assert.All(all[..100_000], b => Assert.Equal(9, b));
        Assert.All(all[100_000..], b => Assert.Equal(0, b));
    }

    [Fact]
    public void A_fifo_is_refused_without_hanging()
    {
        using var folder = new TempFolder();
        ToolRunner.RunChecked("mkfifo", folder["pipe"]);
        var error = Assert.Throws<BlockException>(() => FileStorage.Open(folder["pipe"]));
        Assert.Equal(BlockErrorKind.NotAllowed, error.Kind);
        Assert.Contains("neither a regular file nor a block device", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_file_and_a_directory_are_named()
    {
        using var folder = new TempFolder();
        var missing = Assert.Throws<BlockException>(() => FileStorage.Open(folder["none"]));
        Assert.Equal((BlockErrorKind.NotFound, $"{folder["none"]}: Could not open: No such file or directory"), (missing.Kind, missing.Message));
        Assert.Throws<BlockException>(() => FileStorage.Open(folder.Path));
    }

    [Fact]
    public async Task The_host_copies_between_files()
    {
        Assert.SkipWhen(Portable, "there is no portable way; the engine copies itself");
        using var folder = new TempFolder();
        var bytes = new byte[3_000_000];
        new Random(1).NextBytes(bytes);
        folder.Write("a", bytes);
        await using var from = FileStorage.Open(folder["a"]);
        await using var to = FileStorage.OpenForReplacing(folder["b"]);
        Assert.Equal(2_000_000, to.TryCopyFrom(from, new HostOffset(500_000), new HostOffset(7), 2_000_000));
        Assert.True(File.ReadAllBytes(folder["b"]).AsSpan(7).SequenceEqual(bytes.AsSpan(500_000, 2_000_000)));
    }

    [Fact]
    public async Task A_writer_in_qemu_is_respected_and_named()
    {
        Assert.SkipWhen(Portable, "the portable way has no image locks");
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder();
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", folder["a.qcow2"], "1M");
        using var writer = Process.Start(new ProcessStartInfo(ToolRunner.Find("qemu-io")!, [folder["a.qcow2"]])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        writer.StandardOutput.Read();

        // Somebody who has it open, and no lock, is in nobody's way.
        using var reader = Process.Start(new ProcessStartInfo("sh", ["-c", "exec 3<\"$0\" && echo && exec cat", folder["a.qcow2"]])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        reader.StandardOutput.Read();
        try
        {
            await using var file = FileStorage.Open(folder["a.qcow2"]);
            var error = Assert.Throws<BlockException>(() => file.LockForReading(allowWriters: false));
            Assert.Equal(BlockErrorKind.Locked, error.Kind);
            Assert.Contains("Failed to get shared \"write\" lock", error.Message, StringComparison.Ordinal);
            Assert.Contains($"it is open in process {writer.Id} (qemu-io) (", error.Message, StringComparison.Ordinal);
            Assert.DoesNotContain($"process {reader.Id}", error.Message, StringComparison.Ordinal);
        }
        finally
        {
            reader.StandardInput.Close();
            reader.WaitForExit();
            writer.StandardInput.WriteLine("quit");
            writer.WaitForExit();
        }

        await using var free = FileStorage.Open(folder["a.qcow2"]);
        free.LockForReading(allowWriters: false);
        var refused = ToolRunner.Run("qemu-io", "-c", "write 0 512", folder["a.qcow2"]);
        Assert.Contains("lock", refused.Error, StringComparison.Ordinal);
        ToolRunner.RunChecked("qemu-img", "info", folder["a.qcow2"]);
    }

    [Theory]
    [InlineData("/proc/version")]
    [InlineData("/proc/self/environ")]
    [InlineData("/proc/self/../self/status")]
    [InlineData("/sys/kernel/uevent_seqnum")]
    public async Task A_file_of_the_kernel_is_not_opened_for_an_image(string path)
    {
        Assert.SkipUnless(File.Exists(path), $"{path} does not exist");
        await using (FileStorage.Open(path))
        {
            // Whoever names it himself may have it.
        }

        var error = Assert.Throws<BlockException>(() => FileStorage.OpenReferenced(path));
        Assert.Equal((BlockErrorKind.NotAllowed, $"{path}: is a file of the kernel's own, not an image"), (error.Kind, error.Message));
        using var folder = new TempFolder();
        File.CreateSymbolicLink(folder["link"], path);
        error = Assert.Throws<BlockException>(() => FileStorage.OpenReferenced(folder["link"]));
        Assert.Equal(BlockErrorKind.NotAllowed, error.Kind);
    }

    [Fact]
    public async Task A_file_that_this_process_has_open_is_not_opened_for_an_image()
    {
        Assert.SkipWhen(Portable || !OperatingSystem.IsLinux(), "without the native call a link is followed as any other");
        using var folder = new TempFolder();
        folder.Write("a", "abc");
        using var handle = File.OpenHandle(folder["a"]);
        var link = $"/proc/self/fd/{handle.DangerousGetHandle()}";
        File.CreateSymbolicLink(folder["link"], link);
        foreach (var name in (string[])[link, folder["link"], $"/dev/fd/{handle.DangerousGetHandle()}"])
        {
            Assert.Equal(BlockErrorKind.NotAllowed, Assert.Throws<BlockException>(() => FileStorage.OpenReferenced(name)).Kind);
        }

        await using (FileStorage.Open(link))
        {
            // Whoever names it himself may have it.
        }
    }

    [Fact]
    public async Task A_file_that_an_image_names_is_opened_by_any_name_it_has()
    {
        using var folder = new TempFolder();
        folder.Write("a", "abc");
        File.CreateSymbolicLink(folder["link"], folder["a"]);
        foreach (var name in (string[])["a", "link", "./a"])
        {
            await using var file = FileStorage.OpenReferenced(folder[name]);
            var buffer = new byte[4];
            Assert.Equal(3, await file.ReadAsync(default, buffer));
            Assert.Equal((folder[name], true), (file.Name, file.IsReadOnly));
        }

        Assert.Equal(BlockErrorKind.NotFound, Assert.Throws<BlockException>(() => FileStorage.OpenReferenced(folder["none"])).Kind);
    }
}
