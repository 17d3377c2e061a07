using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

/// <summary>Repairs mend what is damaged, keep what the guest can read, can be run again after any failure, and taken back to the first byte.</summary>
public sealed class ParallelsRepairTests
{
    private const int Clusters = 40;

    public static TheoryData<ParallelsMagic, int, int> Kinds()
    {
        var kinds = new TheoryData<ParallelsMagic, int, int>();
        for (var seed = 1; seed <= 12; seed++)
        {
            kinds.Add(ParallelsMagic.WithouFreSpacExt, 8, seed);
            kinds.Add(ParallelsMagic.WithoutFreeSpace, 8, seed);
            kinds.Add(ParallelsMagic.WithoutFreeSpace, 63, seed);
        }

        return kinds;
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Random_damage_is_mended_and_taken_back(ParallelsMagic magic, int sectors, int seed)
    {
        var (before, expected) = Damaged(magic, (uint)sectors, seed);
        var storage = new MemoryStorage("test.hds", before.ToArray());
        var undo = new MemoryStorage("undo", []);
        List<CheckFinding> findings = [];
        var report = await RepairAsync(storage, RepairMode.All, findings.Add, undo);

        Assert.True(report.IsChanged);
        Assert.Equal(0, report.Check.Corruptions + report.Check.Leaks);
        Assert.Equal(findings.Count(f => f.Severity == CheckSeverity.Corruption), report.CorruptionsFixed);
        Assert.All(findings.Where(f => f.Severity != CheckSeverity.Note), f => Assert.True(f.IsRepaired && f.Explanation is not null && f.Repair is not null, f.Message));
        await AssertReadsAsync(storage, expected, seed);

        // Nothing is left to do, and what was done can be taken back.
        Assert.False((await RepairAsync(new MemoryStorage("test.hds", storage.ToArray()), RepairMode.All)).IsChanged);
        await (await RepairUndo.ReadAsync(undo)).ApplyAsync(storage);
        Assert.Equal(before, storage.ToArray());
        var again = await Assert.ThrowsAsync<BlockException>(async () => await (await RepairUndo.ReadAsync(undo)).ApplyAsync(storage));
        Assert.Contains("has been taken back already", again.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(ParallelsMagic.WithouFreSpacExt, 3)]
    [InlineData(ParallelsMagic.WithoutFreeSpace, 4)]
    public async Task A_failure_at_any_write_leaves_what_can_be_repaired_and_what_can_be_taken_back(ParallelsMagic magic, int seed)
    {
        var (before, expected) = Damaged(magic, 8, seed);
        for (var failing = 0; ; failing++)
        {
            var storage = new FailingStorage(before) { FailingWrite = failing };
            var undo = new MemoryStorage("undo", []);
            try
            {
                await RepairAsync(storage, RepairMode.All, null, undo);
                Assert.True(failing > 5);
                return;
            }
            catch (BlockException e)
            {
                Assert.Contains("told to fail", e.Message, StringComparison.Ordinal);
            }

            if (undo.Length == 0)
            {
                // Nothing counts yet: but for space behind the end, the file is as it was.
                Assert.Equal(before, storage.ToArray().Take(before.Length));
            }
            else
            {
                // Also from half-way, and also when going back fails at first.
                for (var backwards = 0; ; backwards++)
                {
                    var back = new FailingStorage(storage.ToArray()) { FailingWrite = backwards };
                    try
                    {
                        await (await RepairUndo.ReadAsync(undo)).ApplyAsync(back);
                        Assert.Equal(before, back.ToArray());
                        break;
                    }
                    catch (BlockException e) when (e.Message.Contains("told to fail", StringComparison.Ordinal))
                    {
                        var retry = new MemoryStorage("test.hds", back.ToArray());
                        try
                        {
                            await (await RepairUndo.ReadAsync(undo)).ApplyAsync(retry);
                        }
                        catch (BlockException done) when (done.Message.Contains("taken back already", StringComparison.Ordinal))
                        {
                        }

                        Assert.Equal(before, retry.ToArray());
                    }
                    catch (BlockException e) when (e.Message.Contains("taken back already", StringComparison.Ordinal))
                    {
                        Assert.Equal(before, back.ToArray());
                        break;
                    }
                }
            }

            var second = new MemoryStorage("test.hds", storage.ToArray());
            Assert.Equal(0, (await RepairAsync(second, RepairMode.All)).Check.Corruptions);
            await AssertReadsAsync(second, expected, seed);
        }
    }

    [Fact]
    public async Task Leaks_alone_are_cut_off_and_come_back()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 8 * Clusters, LeakedTailClusters = 3 }.FillRandom(1).Build();
        var before = image.Bytes.ToArray();
        Random.Shared.NextBytes(before.AsSpan(before.Length - 5000));
        before[44..48].AsSpan().Clear();
        var storage = new MemoryStorage("test.hds", before.ToArray());
        var undo = new MemoryStorage("undo", []);
        var report = await RepairAsync(storage, RepairMode.Leaks, null, undo);
        Assert.Equal(3, report.LeaksFixed);
        Assert.Equal(before.Length - (3 * 4096), storage.Length);

        // Somebody allocates a cluster where the tail was: nothing may be put over it.
        var used = new MemoryStorage("test.hds", storage.ToArray());
        await used.WriteAsync(new(64 + (4 * 30)), new byte[] { 1, 2, 3, 4 });
        await used.WriteAsync(new(used.Length), new byte[3 * 4096]);
        var refused = await Assert.ThrowsAsync<BlockException>(async () => await (await RepairUndo.ReadAsync(undo)).ApplyAsync(used));
        Assert.Contains("has been written to since", refused.Message, StringComparison.Ordinal);

        await (await RepairUndo.ReadAsync(undo)).ApplyAsync(storage);
        Assert.Equal(before, storage.ToArray());
    }

    [Fact]
    public async Task Leaks_mode_leaves_corruptions_alone()
    {
        var (before, _) = Damaged(ParallelsMagic.WithouFreSpacExt, 8, 2);
        var storage = new MemoryStorage("test.hds", before.ToArray());
        var report = await RepairAsync(storage, RepairMode.Leaks);
        Assert.Equal(0, report.CorruptionsFixed);
        Assert.True(report.Check.Corruptions > 0);
        Assert.Equal(before.AsSpan(0, 64 + (4 * Clusters)), storage.ToArray().AsSpan(0, 64 + (4 * Clusters)));
    }

    [Theory]
    [InlineData(0x00ffffffu)]
    [InlineData(0xffffffffu)]
    public async Task The_start_of_the_data_is_told_from_where_the_clusters_lie(uint wrong)
    {
        // The data of this one begin at sector 24, not directly behind the table.
        var image = new ParallelsImageBuilder { ClusterSectors = 16, SizeSectors = 16 * Clusters, DataOffsetSectors = 24, InUse = 0 }.FillRandom(5).Build();
        var storage = new MemoryStorage("test.hds", image.Set(ParallelsField.DataOffset, wrong).Bytes.ToArray());
        var report = await RepairAsync(storage, RepairMode.All);
        Assert.Equal((1, 0), (report.CorruptionsFixed, report.Check.Corruptions));
        Assert.Equal(8u, BitConverter.ToUInt32(storage.ToArray(), 48) % 16);
        await AssertReadsAsync(storage, image.Model.ToArray(), 5);
    }

    [Fact]
    public async Task A_damaged_extension_is_let_go_and_the_data_stay()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 64 * Clusters }
            .FillRandom(7).AddBitmap(new ParallelsBitmap { StoreUniformClusters = true }.Set(5, 9)).Build();
        image.Bytes.FlipBit(image.ExtensionAt + 100, 3);
        var storage = new MemoryStorage("test.hds", image.Bytes.ToArray());
        var report = await RepairAsync(storage, RepairMode.All);
        Assert.Equal((0, 0), (report.Check.Corruptions, report.Check.Leaks));
        await AssertReadsAsync(storage, image.Model.ToArray(), 7);
    }

    [Theory]
    [InlineData(100, false)]
    [InlineData(100, true)]
    [InlineData(48 + 32, false)]
    public async Task Leaks_mode_leaves_a_damaged_extension_and_all_that_may_be_its_own(int flipped, bool isRightChecksum)
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 64 * Clusters, LeakedTailClusters = 2 }
            .FillRandom(7).AddBitmap(new ParallelsBitmap { StoreUniformClusters = true }.Set(5, 9)).Build();
        image.Bytes.FlipBit(image.ExtensionAt + flipped, 3);
        if (isRightChecksum)
        {
            image.Bytes.PutU64Le(image.BitmapL1At[0], 3);
            image.FixExtensionChecksum();
        }

        var before = image.Bytes.ToArray();
        var storage = new MemoryStorage("test.hds", before.ToArray());
        List<CheckFinding> findings = [];
        var report = await RepairAsync(storage, RepairMode.Leaks, findings.Add);
        Assert.Equal((false, 1, 0), (report.IsChanged, report.Check.Corruptions, report.Check.Leaks));
        Assert.Equal(before, storage.ToArray());
        Assert.Contains(findings, f => f.Severity == CheckSeverity.Note && f.Message.EndsWith("may belong to the damaged Format Extension", StringComparison.Ordinal));

        report = await RepairAsync(storage, RepairMode.All);
        Assert.Equal((true, 0, 0), (report.IsChanged, report.Check.Corruptions, report.Check.Leaks));
        await AssertReadsAsync(storage, image.Model.ToArray(), 7);
    }

    [Fact]
    public async Task Leaks_mode_takes_a_stale_extension_together_with_what_refers_to_it()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 64 * Clusters }
            .FillRandom(7).AddBitmap(new ParallelsBitmap { StoreUniformClusters = true }.Set(5, 9)).Build().Set(ParallelsField.InUse, 0);
        var storage = new MemoryStorage("test.hds", image.Bytes.ToArray());
        var report = await RepairAsync(storage, RepairMode.Leaks);
        Assert.Equal((2, 0), (report.LeaksFixed, report.Check.Leaks));
        Assert.Equal(0u, BitConverter.ToUInt64(storage.ToArray(), 56));
    }

    [Fact]
    public async Task An_image_that_must_not_be_changed_is_not()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 8 * Clusters }.FillRandom(1).AddFeature(0x1234, 1, [1, 2, 3, 4]).Build();
        var before = image.SetBat(3, 0x7fffffff).Bytes.ToArray();
        var storage = new MemoryStorage("test.hds", before.ToArray());
        var refused = await Assert.ThrowsAsync<BlockException>(() => RepairAsync(storage, RepairMode.All));
        Assert.Contains("forbids changing", refused.Message, StringComparison.Ordinal);
        Assert.Equal(before, storage.ToArray());
    }

    // Every kind of damage at random, and what the guest is to read after its repair.
    private static (byte[] Bytes, byte[] Expected) Damaged(ParallelsMagic magic, uint sectors, int seed)
    {
        var random = new Random(seed);
        var size = (int)sectors * 512;
        var builder = new ParallelsImageBuilder
        {
            Magic = magic, ClusterSectors = sectors, SizeSectors = sectors * Clusters, InUse = 0, Seed = seed, LeakedTailClusters = random.Next(3),
            Placement = HostPlacement.Shuffled,
        };
        var image = builder.FillRandom(seed, 0.6).Build();
        var expected = image.Model.ToArray();
        var unit = magic == ParallelsMagic.WithoutFreeSpace ? 512 : size;
        var taken = new HashSet<int>();
        var damages = 0;
        while (damages < 6)
        {
            var (one, other) = (random.Next(Clusters), random.Next(Clusters));
            var mine = expected.AsSpan(one * size, size);
            var theirs = expected.AsSpan(other * size, size);
            if (one == other || image.Bat(other) == 0 || taken.Contains(other) || !taken.Add(one))
            {
                continue;
            }

            switch (random.Next(4))
            {
                case 0:
                    image.SetBat(one, image.Bat(other));
                    theirs.CopyTo(mine);
                    taken.Add(other);
                    break;
                case 1:
                    image.SetBat(one, (uint)((image.Bytes.Length / unit) + 1 + random.Next(1000)));
                    mine.Clear();
                    break;
                case 2 when magic == ParallelsMagic.WithoutFreeSpace && image.Bat(other) * 512 + 512 + size <= image.Bytes.Length:
                    image.SetBat(one, image.Bat(other) + 1);
                    image.Bytes.Read((image.Bat(other) + 1) * 512L, mine);
                    taken.Add(other);
                    break;
                case 3 when magic == ParallelsMagic.WithoutFreeSpace && image.DataAt > 512:
                    image.SetBat(one, 0 + 1);
                    mine.Clear();
                    break;
                default:
                    taken.Remove(one);
                    continue;
            }

            damages++;
        }

        if (random.Next(2) == 0)
        {
            image.Set(ParallelsField.InUse, ParallelsImageBuilder.InUseOpen);
        }

        return (image.Bytes.ToArray(), expected);
    }

    private static async Task AssertReadsAsync(Storage storage, byte[] expected, int seed)
    {
        var copy = new byte[storage.Length];
        _ = await storage.ReadAsync(default, copy);
        await using var node = await Opening.OpenAsync(new MemoryStorage("test.hds", copy, readOnly: true), "parallels");
        var read = await Opening.ReadAllAsync(node);
        Assert.True(expected.AsSpan().SequenceEqual(read), $"seed {seed}");
    }

    private static async Task<RepairReport> RepairAsync(Storage storage, RepairMode mode, Action<CheckFinding>? report = null, Storage? undoFile = null)
    {
        var context = new OpenContext
        {
            Formats = Opening.Formats, Storages = null!, Gate = new ClosedGate("tests follow nothing"), MetadataOnly = true, ForRepair = true,
        };
        await using var driver = await Opening.Formats.Get("parallels").OpenAsync(storage, new NodeOptions(), context);
        return await driver.RepairAsync(new(mode) { BeforeSwitch = undoFile is null ? null : KeepAsync }, report ?? (static _ => { }));

        async ValueTask KeepAsync(RepairUndo undo, CancellationToken token)
        {
            using var stream = new MemoryStream();
            await undo.WriteToAsync(stream, token);
            await undoFile.WriteAsync(default, stream.ToArray(), token);
        }
    }

    private sealed class FailingStorage(byte[] bytes) : Storage
    {
        private readonly MemoryStorage _inner = new("test.hds", bytes.ToArray());
        private int _writes;

        /// <summary>Writes, flushes and changes of length are counted together.</summary>
        public int FailingWrite { get; init; } = -1;

        public override string Name => _inner.Name;

        public override long Length => _inner.Length;

        public override bool IsReadOnly => false;

        public byte[] ToArray() => _inner.ToArray();

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            _inner.ReadAsync(at, buffer, cancellationToken);

        public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Count();
            return _inner.WriteAsync(at, buffer, cancellationToken);
        }

        public override ValueTask FlushAsync(CancellationToken cancellationToken = default)
        {
            Count();
            return default;
        }

        public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
        {
            Count();
            return _inner.SetLengthAsync(length, cancellationToken);
        }

        private void Count()
        {
            if (_writes++ == FailingWrite)
            {
                throw new BlockException(BlockErrorKind.Io, "test.hds: told to fail");
            }
        }
    }
}
