using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Unit.Formats.Qcow2.Writing.WriteFixture;
using BuiltImage = Platter.TestKit.Qcow2Image;

namespace Platter.Tests.Unit.Formats.Qcow2.Check;

/// <summary>Repairs mend what can be mended, change nothing that a guest sees, and happen wholly or not at all. That the real tool agrees is tested with it.</summary>
public sealed class Qcow2RepairTests
{
    private const ulong Copied = 1UL << 63;

    public static TheoryData<int, int, bool, int> Shapes() => new()
    {
        { 9, 4, false, 3 }, { 9, 6, false, 3 }, { 12, 3, false, 3 }, { 16, 5, false, 3 }, { 16, 2, true, 3 }, { 14, 4, true, 3 }, { 12, 4, false, 2 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public async Task All_that_is_stored_about_references_may_be_wrong(int bits, int order, bool extended, int version)
    {
        for (var seed = 1; seed <= 6; seed++)
        {
            var image = Build(bits, order, extended, version, seed);
            var random = new Random(seed);
            Scramble(image, random);
            var storage = Memory(image);
            var report = await RepairAsync(storage, RepairMode.All);
            Assert.Equal((0, 0, 0), (report.Check.Corruptions, report.Check.Leaks, report.Check.Errors));
            Assert.True(report.IsChanged);
            await AssertCleanAsync(storage);
            await using var node = await OpenAsync(storage, writable: false);
            await AssertReadsAsync(node, image.Model.ToArray());
            Assert.Single(node.Snapshots);
        }
    }

    [Theory]
    [InlineData("data in the L1 table")]
    [InlineData("data in their own L2 table")]
    [InlineData("data in another L2 table")]
    [InlineData("the L1 table as an L2 table")]
    public async Task What_is_said_to_be_in_the_place_of_a_table_has_it_alone_when_the_table_has_moved(string damage)
    {
        foreach (var flag in new[] { Copied, 0UL })
        {
            var image = new Qcow2Builder { ClusterBits = 12, Size = 8 << 20 }.Fill(1, 0, 600, 1300).Build();
            switch (damage)
            {
                case "data in the L1 table":
                    image.SetL2(1, flag | (ulong)image.L1At);
                    break;
                case "data in their own L2 table":
                    image.SetL2(1, flag | (ulong)image.L2TableAt[0]);
                    break;
                case "data in another L2 table":
                    image.SetL2(1, flag | (ulong)image.L2TableAt[1]);
                    break;
                default:
                    image.SetL1(0, flag | (ulong)image.L1At);
                    break;
            }

            var storage = Memory(image);
            var report = await RepairAsync(storage, RepairMode.All);
            Assert.Equal((0, 0, 0), (report.Check.Corruptions, report.Check.Leaks, report.Check.Errors));
            await AssertCleanAsync(storage);
        }
    }

    [Fact]
    public async Task A_good_image_is_not_written_to()
    {
        var image = Build(12, 4, false, 3, 1);
        var storage = Memory(image);
        Assert.False((await RepairAsync(storage, RepairMode.All)).IsChanged);
        Assert.False((await RepairAsync(storage, RepairMode.Leaks)).IsChanged);
        Assert.Equal(image.Bytes.ToArray(), storage.ToArray());
    }

    [Fact]
    public async Task Leaks_are_given_back_beside_corruptions_which_stay()
    {
        var image = Build(12, 4, false, 3, 1);
        image.SetRefcount(image.FreeClusters[0], 2);
        image.SetRefcount((long)(image.L2(FirstPlain(image)) & 0x00fffffffffffe00), 0);
        var storage = Memory(image);
        var report = await RepairAsync(storage, RepairMode.Leaks);
        Assert.Equal((1, 0, 0), (report.LeaksFixed, report.CorruptionsFixed, report.Check.Leaks));
        Assert.Equal(2, report.Check.Corruptions);
    }

    [Fact]
    public async Task Every_corruption_and_leak_is_explained()
    {
        var image = Build(12, 4, false, 3, 3);
        Scramble(image, new Random(3));
        var findings = new List<CheckFinding>();
        await RepairAsync(Memory(image), RepairMode.All, findings.Add);
        Assert.NotEmpty(findings);
        Assert.All(findings, finding => Assert.True(finding is { Explanation: not null, Repair: not null, IsRepaired: true }, finding.Message));
    }

    [Fact]
    public async Task Marks_go_only_when_nothing_is_wrong_any_more()
    {
        var image = Build(12, 4, false, 3, 1);
        image.Set(Qcow2Field.IncompatibleFeatures, 3);
        var broken = FirstPlain(image);
        var entry = image.L2(broken);
        var storage = Memory(image);
        await RepairAsync(storage, RepairMode.All);
        Assert.Equal(0, storage.ToArray()[79]);

        image.SetL2(broken, entry + 512);
        storage = Memory(image);
        Assert.True((await RepairAsync(storage, RepairMode.All)).Check.Corruptions > 0);
        Assert.Equal(3, storage.ToArray()[79]);
        Assert.Equal(BlockErrorKind.CorruptImage, (await Assert.ThrowsAnyAsync<BlockException>(() => OpenAsync(storage))).Kind);
    }

    [Fact]
    public async Task A_dirty_image_that_cannot_be_repaired_is_not_opened_for_writing()
    {
        var image = Build(12, 4, false, 3, 1);
        image.Set(Qcow2Field.IncompatibleFeatures, 1);
        image.SetL2(FirstPlain(image), image.L2(FirstPlain(image)) + 512);
        var storage = Memory(image);
        await Assert.ThrowsAnyAsync<BlockException>(() => OpenAsync(storage));
        await using var node = await OpenAsync(storage, writable: false);
        Assert.Equal(image.Model.Size, node.VirtualSize);
    }

    [Fact]
    public async Task What_was_cut_off_goes_on_reading_as_zeros_and_the_image_can_be_written_to()
    {
        for (var clusters = 1; clusters < 40; clusters++)
        {
            var image = Build(12, 4, false, 3, 4);
            image.Set(Qcow2Field.IncompatibleFeatures, 1).Truncate(image.Bytes.Length - (clusters * 4096) - 100);
            var storage = Memory(image);
            var before = await ReadAsync(storage);
            RepairReport report;
            try
            {
                report = await RepairAsync(storage, RepairMode.All);
            }
            catch (BlockException)
            {
                Assert.Equal(image.Bytes.ToArray(), storage.ToArray());
                continue;
            }

            Assert.Equal((0, 0, 0), (report.Check.Corruptions, report.Check.Leaks, report.Check.Errors));
            Assert.Equal(0, storage.ToArray()[79]);
            Assert.True(before is null || (await ReadAsync(storage))!.SequenceEqual(before));
        }
    }

    [Fact]
    public async Task A_check_that_fails_leads_to_no_write()
    {
        var image = Build(12, 4, false, 3, 2);
        Scramble(image, new Random(2));
        image.Set(Qcow2Field.SnapshotsOffset, 1UL << 60);
        image.Set(Qcow2Field.SnapshotCount, 3);
        var storage = new FailingStorage(image.Bytes.ToArray());
        try
        {
            await RepairAsync(storage, RepairMode.All);
        }
        catch (BlockException)
        {
            Assert.Equal(0, storage.Writes);
        }

        for (var read = 0; ; read++)
        {
            var bytes = Damaged().Bytes.ToArray();
            storage = new FailingStorage(bytes) { FailingRead = read };
            try
            {
                await RepairAsync(storage, RepairMode.All);
                Assert.True(read > 5);
                break;
            }
            catch (BlockException) when (storage.HasFailed)
            {
                // The last check reads what has been switched to; before that nothing may be different.
                Assert.True(storage.HasSwitched || storage.ToArray().AsSpan().SequenceEqual(bytes), $"read {read}");
            }
        }
    }

    [Theory]
    [InlineData(BlockErrorKind.Io)]
    [InlineData(BlockErrorKind.NoSpace)]
    public async Task At_any_write_or_flush_that_fails_the_image_is_what_it_was(BlockErrorKind kind)
    {
        for (var write = 0; ; write++)
        {
            var image = Damaged();
            var bytes = image.Bytes.ToArray();
            var storage = new FailingStorage(bytes) { FailingWrite = write, Kind = kind };
            var told = false;
            try
            {
                await RepairAsync(storage, RepairMode.All, undo: (_, _) => { told = true; return default; });
                Assert.True(write > 4);
                break;
            }
            catch (BlockException e) when (storage.HasFailed)
            {
                Assert.Equal(kind, e.Kind);
                if (!told)
                {
                    Assert.Equal(bytes, storage.ToArray());
                }
            }

            // Whatever the last write left, a second repair finds its end.
            var second = new MemoryStorage("test.qcow2", storage.ToArray());
            Assert.Equal(0, (await RepairAsync(second, RepairMode.All)).Check.Corruptions);
            await using var node = await OpenAsync(second, writable: false);
            await AssertReadsAsync(node, image.Model.ToArray());
        }
    }

    [Fact]
    public async Task When_the_undo_file_cannot_be_written_nothing_counts()
    {
        var image = Damaged();
        var storage = Memory(image);
        await Assert.ThrowsAsync<BlockException>(() => RepairAsync(storage, RepairMode.All, undo: (_, _) => throw new BlockException(BlockErrorKind.NoSpace, "undo: no room")));
        Assert.Equal(image.Bytes.ToArray(), storage.ToArray());
    }

    [Fact]
    public async Task An_undo_file_that_was_touched_is_refused()
    {
        var image = Damaged();
        var storage = Memory(image);
        byte[] undo = [];
        await RepairAsync(storage, RepairMode.All, undo: (made, _) => { undo = ((SwitchUndo)made).ToBytes(); return default; });
        for (var at = 0; at < undo.Length; at++)
        {
            var touched = undo.ToArray();
            touched[at] ^= 1;
            Assert.Throws<BlockException>(() => SwitchUndo.Parse(touched, "undo"));
            Assert.Throws<BlockException>(() => SwitchUndo.Parse(undo.AsSpan(0, at), "undo"));
        }

        await SwitchUndo.Parse(undo, "undo").ApplyAsync(storage);
        Assert.Equal(image.Bytes.ToArray(), storage.ToArray());
    }

    [Fact]
    public async Task Who_uses_a_cluster_is_found()
    {
        var image = Build(12, 4, false, 3, 1);
        var guest = FirstPlain(image);
        await using var driver = await OpenForRepairAsync(Memory(image));
        var (data, table) = (new HostOffset((long)(image.L2(guest) & 0x00fffffffffffe00)), new HostOffset(image.L2TableAt[0]));
        var users = await driver.FindUsersAsync(new HashSet<HostOffset> { data, table, default, new(image.Snapshots[0].L1At), new(image.FreeClusters[0]) }, 4);
        Assert.Equal(new GuestOffset(guest << 12), users[data][0].Offset);
        Assert.Equal((0, image.Model.Size), (users[table][0].Offset.Value, users[table][0].Length));
        Assert.Equal(new ClusterUse(default, image.Model.Size), users[default][0]);
        Assert.Equal("one", users[new(image.Snapshots[0].L1At)][0].Snapshot);
        Assert.Equal(4, users.Count);
    }

    [Fact]
    public async Task Ranges_that_several_entries_give_a_cluster_are_told_once()
    {
        var image = new Qcow2Builder { ClusterBits = 12, Size = 16 << 20 }.Fill(1, 0, 600, 1300).Build();
        var table = image.L2TableAt[0];
        image.SetL2(5, Copied | (ulong)table).SetL2(6, Copied | (ulong)table).SetL1(1, (ulong)table).SetL1(4, (ulong)table).SetL1(6, (ulong)table).SetL1(5, (ulong)table);
        await using var driver = await OpenForRepairAsync(Memory(image));
        var users = await driver.FindUsersAsync(new HashSet<HostOffset> { new(table) }, 4);
        Assert.Equal([new ClusterUse(default, 4 << 20), new ClusterUse(new(8 << 20), 6 << 20)], users[new(table)]);
    }

    [Fact]
    public async Task A_refcount_that_is_too_high_is_not_called_space_that_nothing_refers_to()
    {
        var image = new Qcow2Builder { ClusterBits = 12, Size = 8 << 20, FreeClusters = 2 }.Fill(1, 0).Build();
        image.SetRefcount(image.L2TableAt[0], 7).SetRefcount(image.FreeClusters[0], 1);
        await using var node = await OpenAsync(Memory(image), writable: false);
        var leaks = new List<CheckFinding>();
        await node.CheckAsync(f => leaks.AddRange(f.Severity == CheckSeverity.Leak ? [f] : []));
        Assert.Equal(2, leaks.Count);
        foreach (var leak in leaks)
        {
            Assert.Equal(leak.HostOffset!.Value.Value == image.FreeClusters[0], leak.Explanation!.Contains("nothing refers to", StringComparison.Ordinal));
        }
    }

    private static async Task<byte[]?> ReadAsync(MemoryStorage storage)
    {
        try
        {
            await using var node = await OpenAsync(storage, writable: false);
            var content = new byte[node.VirtualSize];
            await node.ReadAsync(default, content);
            return content;
        }
        catch (BlockException)
        {
            return null;
        }
    }

    private static BuiltImage Damaged()
    {
        var image = Build(9, 4, false, 3, 5);
        Scramble(image, new Random(5));
        return image;
    }

    private static BuiltImage Build(int bits, int order, bool extended, int version, int seed)
    {
        var builder = new Qcow2Builder
        {
            ClusterBits = bits, RefcountOrder = order, ExtendedL2 = extended, Version = version, Size = 60L << bits, Seed = seed, FreeClusters = 3,
        };
        return builder.FillRandom(seed, 0.6, compressed: order > 2).AddSnapshot("1", "one").FillRandom(seed + 1, 0.3, compressed: order > 2).Build();
    }

    private static void Scramble(BuiltImage image, Random random)
    {
        for (long at = 0; at < image.Bytes.Length; at += image.ClusterBytes)
        {
            if (random.Next(2) == 0)
            {
                image.SetRefcount(at, (ulong)random.Next(2));
            }
        }

        for (var guest = 0; guest < 60; guest++)
        {
            if (IsPlain(image, guest) && random.Next(2) == 0)
            {
                image.SetL2(guest, image.L2(guest) ^ Copied);
            }
        }

        if (random.Next(2) == 0)
        {
            image.Bytes.PutU64Be(image.RefcountTableAt, (ulong)random.NextInt64(1L << 40));
        }
    }

    private static int FirstPlain(BuiltImage image) => Enumerable.Range(0, 60).First(guest => IsPlain(image, guest) && (image.L2(guest) & Copied) != 0);

    private static bool IsPlain(BuiltImage image, int guest) => image.L2(guest) is var entry && (entry >> 62 & 1) == 0 && (entry & 1) == 0 && (entry & 0x00fffffffffffe00) != 0;

    private static MemoryStorage Memory(BuiltImage image) => new("test.qcow2", image.Bytes.ToArray());

    private static ValueTask<ImageDriver> OpenForRepairAsync(Storage storage) => new Qcow2Format().OpenAsync(
        storage, new NodeOptions(),
        new OpenContext { Formats = new FormatRegistry([new Qcow2Format()], []), Storages = null!, Gate = new ClosedGate("only the image"), MetadataOnly = true, ForRepair = true });

    private static async Task<RepairReport> RepairAsync(
        Storage storage, RepairMode mode, Action<CheckFinding>? report = null, Func<RepairUndo, CancellationToken, ValueTask>? undo = null)
    {
        await using var driver = await OpenForRepairAsync(storage);
        return await driver.RepairAsync(new(mode) { BeforeSwitch = undo }, report ?? (static _ => { }));
    }

    private sealed class FailingStorage(byte[] bytes) : Storage
    {
        private readonly MemoryStorage _inner = new("test.qcow2", bytes.ToArray());
        private int _reads;

        public int FailingRead { get; init; } = -1;

        /// <summary>Writes and flushes are counted together.</summary>
        public int FailingWrite { get; init; } = -1;

        public BlockErrorKind Kind { get; init; } = BlockErrorKind.Io;

        public int Writes { get; private set; }

        public bool HasFailed { get; private set; }

        public bool HasSwitched { get; private set; }

        public override string Name => _inner.Name;

        public override long Length => _inner.Length;

        public override bool IsReadOnly => false;

        public byte[] ToArray() => _inner.ToArray();

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            FailAt(_reads++, FailingRead);
            return _inner.ReadAsync(at, buffer, cancellationToken);
        }

        public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            FailAt(Writes++, FailingWrite);
            HasSwitched |= at.Value == 0;
            return _inner.WriteAsync(at, buffer, cancellationToken);
        }

        public override ValueTask FlushAsync(CancellationToken cancellationToken = default)
        {
            FailAt(Writes++, FailingWrite);
            return default;
        }

        public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) => _inner.SetLengthAsync(length, cancellationToken);

        private void FailAt(int number, int failing)
        {
            if (number == failing)
            {
                HasFailed = true;
                throw new BlockException(Kind, "test.qcow2: told to fail");
            }
        }
    }
}
