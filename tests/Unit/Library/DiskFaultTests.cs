using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Library;

/// <summary>Disks on a file whose requests fail by the rules of <c>blkdebug</c>.</summary>
public sealed class DiskFaultTests : IDisposable
{
    private readonly TempFolder _folder = new("faults");

    [Theory]
    [InlineData("reftable_load", 5)]
    [InlineData("write_aio", 28)]
    [InlineData("flush_to_disk", 5)]
    [InlineData("l2_update", 5)]
    public async Task The_error_has_its_number_and_the_file_is_closed(string what, int number)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "open files are listed in /proc");
        var path = _folder["disk.qcow2"];
        await Disk.CreateAsync(path, 10 << 20, new Qcow2CreateOptions());
        var options = new NodeOptions { ["driver"] = "qcow2" };
        options.SetChild("file", NodeOptions.ParseKeyValues($"driver=blkdebug,image.driver=file,image.filename={path},inject-error.0.event={what},inject-error.0.errno={number}"));
        var error = await Assert.ThrowsAsync<BlockException>(async () =>
        {
            await using var disk = await Disk.OpenAsync(options, new DiskOpenOptions { Writable = true });
            await disk.WriteAsync(0, new byte[100_000]);
            await disk.FlushAsync();
        });
        var told = error;
        while (told.HostErrorNumber is null)
        {
            told = Assert.IsAssignableFrom<BlockException>(told.InnerException);
        }

        Assert.Equal(number, told.HostErrorNumber);
        Assert.DoesNotContain(Directory.GetFiles("/proc/self/fd"), fd => new FileInfo(fd).LinkTarget == path);
    }

    [Fact]
    public async Task A_disk_is_opened_by_the_short_name_too()
    {
        await Disk.CreateAsync(_folder["disk.qcow2"], 10 << 20, new Qcow2CreateOptions());
        File.WriteAllText(_folder["rules"], "[inject-error]\nevent = \"write_aio\"\nonce = \"on\"\n");
        await using var disk = await Disk.OpenAsync($"blkdebug:{_folder["rules"]}:{_folder["disk.qcow2"]}", new DiskOpenOptions { Writable = true });
        var error = await Assert.ThrowsAsync<BlockException>(async () => await disk.WriteAsync(0, new byte[512]));
        Assert.Equal(BlockErrorKind.Io, error.Kind);
        await disk.WriteAsync(0, new byte[512]);
    }

    [Fact]
    public async Task Over_an_image_requests_of_its_disk_fail_and_nothing_is_guessed_from_what_the_guest_wrote()
    {
        var path = _folder["disk.qcow2"];
        await Disk.CreateAsync(path, 10 << 20, new Qcow2CreateOptions());
        var content = File.ReadAllBytes(path);
        var options = NodeOptions.ParseKeyValues(
            $"driver=blkdebug,image.driver=qcow2,image.file.driver=file,image.file.filename={path},inject-error.0.event=none,inject-error.0.iotype=discard,inject-error.0.errno=28");
        for (var round = 0; round < 2; round++)
        {
            await using var disk = await Disk.OpenAsync(options, new DiskOpenOptions { Writable = true });
            Assert.Equal((10 << 20, "raw"), (disk.Size, disk.Node.FormatName));
            await disk.WriteAsync(0, content.AsMemory(0, 4096));
            var error = await Assert.ThrowsAsync<BlockException>(async () => await disk.DiscardAsync(0, 1 << 20));
            Assert.Equal((BlockErrorKind.NoSpace, 28), (error.Kind, error.HostErrorNumber));
            var back = new byte[4096];
            await disk.ReadAsync(0, back);
            Assert.Equal(content[..4096], back);
        }
    }

    [Fact]
    public void An_image_cannot_ask_for_faults()
    {
        foreach (var name in new[] { """json:{"driver":"blkdebug","image":{"driver":"file","filename":"x"}}""", "blkdebug::x" })
        {
            var reference = new ImageReference(ReferenceKind.Backing, name, null, "disk.qcow2", string.Empty);
            Assert.Equal(BlockErrorKind.NotAllowed, Assert.Throws<BlockException>(() => new LocalFilesGate().Resolve(reference)).Kind);
        }
    }

    public void Dispose() => _folder.Dispose();
}
