using System.Text.Json.Nodes;
using Platter.Cli.Output;
using Platter.Core.Images;
using Xunit;

namespace Platter.Tests.Unit.Cli;

public sealed class InfoTextTests
{
    // qemu-img create -f qcow2 -b base.qcow2 -F qcow2 sub/top.qcow2; qemu-img bitmap --add …; qemu-img info sub/top.qcow2
    [Fact]
    public void An_overlay_with_bitmaps_is_told_as_qemu_img_tells_it()
    {
        var info = new ImageInfo
        {
            FileName = "sub/top.qcow2",
            Format = "qcow2",
            VirtualSize = 8388608,
            AllocatedSize = 200704,
            ClusterSize = 65536,
            Dirty = true,
            Encrypted = true,
            BackingName = "base.qcow2",
            FullBackingName = "sub/base.qcow2",
            BackingFormat = "qcow2",
            FormatSpecific = JsonNode.Parse(
                """
                {"compat":"1.1","compression-type":"zlib","lazy-refcounts":false,
                 "bitmaps":[{"flags":["auto"],"name":"bm0","granularity":65536},{"flags":[],"name":"bm1","granularity":131072}],
                 "refcount-bits":16,"corrupt":false,"extended-l2":false}
                """)!.AsObject(),
        };
        Assert.Equal(
            """
            image: sub/top.qcow2
            file format: qcow2
            virtual size: 8 MiB (8388608 bytes)
            disk size: 196 KiB
            encrypted: yes
            cluster_size: 65536
            cleanly shut down: no
            backing file: base.qcow2 (actual path: sub/base.qcow2)
            backing file format: qcow2
            Format specific information:
                compat: 1.1
                compression type: zlib
                lazy refcounts: false
                bitmaps:
                    [0]:
                        flags:
                            [0]: auto
                        name: bm0
                        granularity: 65536
                    [1]:
                        flags:
                        name: bm1
                        granularity: 131072
                refcount bits: 16
                corrupt: false
                extended l2: false

            """,
            Text(info));
    }

    [Fact]
    public void What_is_unknown_is_left_out_or_said_to_be_unknown() => Assert.Equal(
        "image: nbd://x\nfile format: raw\nvirtual size: 1 GiB (1073741824 bytes)\ndisk size: unavailable\nbacking file: b (cannot determine actual path)\n",
        Text(new ImageInfo { FileName = "nbd://x", Format = "raw", VirtualSize = 1 << 30, BackingName = "b" }));

    [Fact]
    public void Snapshots_stand_in_the_columns_of_qemu_img()
    {
        var writer = new StringWriter();
        var date = new DateTimeOffset(2026, 11, 21, 2, 29, 31, TimeZoneInfo.Local.GetUtcOffset(new DateTime(2026, 11, 21, 2, 29, 31)));
        InfoText.WriteSnapshots(writer,
        [
            new SnapshotInfo { Id = "1", Name = "first snap", Date = date },
            new SnapshotInfo
            {
                Id = "2", Name = "s2", Date = date, VmStateSize = 123456789, VmClockNanoseconds = 442861_045_000_999, InstructionCount = 12345678901234567890,
            },
            new SnapshotInfo { Id = "3", Name = "a very long snapshot name indeed", Date = date, InstructionCount = 12345 },
            new SnapshotInfo { Id = "4", Name = "ünïcödé", Date = date, InstructionCount = 0 },
        ]);
        Assert.Equal(
            "Snapshot list:\n"
            + "ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT\n"
            + "1         first snap            0 B 2026-11-21 02:29:31 00:00:00.000           \n"
            + "2         s2                118 MiB 2026-11-21 02:29:31123:01:01.045-6101065172474983726\n"
            + "3         a very long snapshot name indeed      0 B 2026-11-21 02:29:31 00:00:00.000      12345\n"
            + "4         ünïcödé           0 B 2026-11-21 02:29:31 00:00:00.000          0\n",
            writer.ToString());
    }

    [Fact]
    public void Control_characters_of_an_image_never_reach_the_terminal()
    {
        var text = Text(new ImageInfo
        {
            FileName = "a\u001b]0;x\u0007",
            Format = "qcow2",
            VirtualSize = 0,
            BackingName = "b\nimage: c",
            FullBackingName = "b\nimage: c",
            Snapshots = [new SnapshotInfo { Id = "1\r", Name = "\u001b[2J" }],
            FormatSpecific = new JsonObject { ["data\u0085-file"] = "\u202egnp", ["n"] = null },
        });
        Assert.DoesNotContain(text, c => c != '\n' && (char.IsControl(c) || c == '\u202e'));
        Assert.Contains(@"backing file: b\x0aimage: c", text, StringComparison.Ordinal);
    }

    private static string Text(ImageInfo info)
    {
        var writer = new StringWriter();
        InfoText.Write(writer, info);
        return writer.ToString();
    }
}
