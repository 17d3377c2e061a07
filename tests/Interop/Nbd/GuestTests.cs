using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

/// <summary>Real kernels as clients: a guest whose disk is an export, and a kernel that an export is attached to.</summary>
public sealed class GuestTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(5);

    [Fact]
    public void A_guest_makes_a_file_system_on_a_qcow2_disk_that_we_serve_and_finds_it_again()
    {
        PlatterCli.RequireOrSkip();
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var machine = new VirtualMachine(folder, "virtio_pci", "virtio_blk");
        var image = folder["disk.qcow2"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", image, "256M");
        const string Make = "mke2fs /dev/vda\nmount -t ext4 /dev/vda /mnt\ncp /bin/busybox /mnt/one\ndd if=/dev/urandom of=/mnt/two bs=1M count=20\n"
            + "md5sum /mnt/one /mnt/two > /mnt/sums\nsync\nrm /mnt/one\ncp /bin/busybox /mnt/one\numount /mnt";
        const string Verify = "mount -t ext4 -o ro /dev/vda /mnt\nmd5sum -c /mnt/sums\numount /mnt";
        foreach (var script in (string[])[Make, Verify])
        {
            using var server = NbdServer.Start(PlatterCli.Command("serve", "-w", "-f", "qcow2", "-k", "{socket}", image), folder);
            var run = machine.Run(script, s_limit, "-drive", $"file={server.Uri},format=raw,if=virtio,cache=writeback,discard=unmap");
            Assert.True(run.ExitCode == 0, run.Output);
            Assert.Equal(0, server.Stop());
        }

        ToolRunner.RunChecked("qemu-img", "check", "-q", image);
    }

    [Fact]
    public void The_kernel_attaches_an_image_mounts_it_and_lets_go_of_it()
    {
        using var folder = new TempFolder();
        var machine = new VirtualMachine(folder, "nbd");
        machine.AddPlatter();
        var run = machine.Run(
            """
            platter create -f qcow2 /tmp/a.qcow2 64M
            platter serve -w -c /dev/nbd0 /tmp/a.qcow2 > /tmp/log 2>&1 &
            until grep -q /dev/nbd0 /tmp/log; do sleep 1; if ! jobs %1; then cat /tmp/log; exit 1; fi; done
            test "$(cat /sys/block/nbd0/size)" = 131072
            mke2fs /dev/nbd0
            mount -t ext4 /dev/nbd0 /mnt
            cp /bin/busybox /mnt/one
            md5sum /mnt/one > /tmp/sum
            if platter serve -c /dev/nbd0 /tmp/a.qcow2 -U 2> /tmp/busy; then exit 2; fi
            cat /tmp/busy
            umount /mnt
            platter serve -d /dev/nbd0
            wait
            test "$(cat /sys/block/nbd0/size)" = 0
            platter check /tmp/a.qcow2
            platter serve -c /dev/nbd3 /tmp/a.qcow2 > /tmp/log 2>&1 &
            until grep -q /dev/nbd3 /tmp/log; do sleep 1; if ! jobs %1; then cat /tmp/log; exit 1; fi; done
            test "$(cat /sys/block/nbd3/ro)" = 1
            mount -t ext4 -o ro /dev/nbd3 /mnt
            md5sum -c /tmp/sum
            umount /mnt
            kill %1
            wait
            test "$(cat /sys/block/nbd3/size)" = 0
            # The driver's netlink is not seen from another network namespace: there it is attached the old way.
            ln -s platter /bin/qemu-nbd
            unshare -n qemu-nbd -c /dev/nbd1 -f qcow2 /tmp/a.qcow2 &
            until test "$(cat /sys/block/nbd1/size)" = 131072; do sleep 1; done
            mount -t ext4 /dev/nbd1 /mnt
            md5sum -c /tmp/sum
            cp /tmp/sum /mnt/two
            umount /mnt
            unshare -n qemu-nbd -d /dev/nbd1
            wait
            platter check /tmp/a.qcow2
            """,
            s_limit);
        Assert.True(run.ExitCode == 0, run.Output);
        Assert.Contains("/dev/nbd0: is attached already", run.Output);
    }

    [Fact]
    public void Server_and_client_meet_over_vsock()
    {
        using var folder = new TempFolder();
        var machine = new VirtualMachine(folder, "vsock", "vsock_loopback");
        machine.AddPlatter();
        var run = machine.Run(
            """
            platter create -f qcow2 /tmp/a.qcow2 16M
            platter serve -v -w --vsock 7777 -x disk /tmp/a.qcow2 > /tmp/log 2>&1 &
            until grep -q nbd+vsock /tmp/log; do sleep 1; if ! jobs %1; then cat /tmp/log; exit 1; fi; done
            test "$(cat /tmp/log)" = nbd+vsock://1:7777/disk
            platter io -f raw -c 'write -P 9 1M 64k' -c 'read -P 9 1M 64k' nbd+vsock://1:7777/disk || { cat /tmp/log; exit 3; }
            platter nbd info nbd+vsock://1:7777/disk
            kill %1
            wait
            platter io -r -c 'read -P 9 1M 64k' /tmp/a.qcow2
            """,
            s_limit);
        Assert.True(run.ExitCode == 0, run.Output);
        Assert.DoesNotContain("failed", run.Output);
        Assert.Contains("export-size: 16777216", run.Output);
    }
}
