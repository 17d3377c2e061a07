using System.Buffers.Binary;
using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Opens what a power cut left and demands what is promised of every operation (docs/reliability.md).</summary>
/// <param name="run">How it came about.</param>
/// <param name="state">What was left.</param>
/// <param name="random">For the requests after recovery.</param>
internal sealed class CrashVerifier(CrashRun run, CrashState state, Random random)
{
    private const int RecoveryRequests = 6;

    private readonly NamedStorages _storages = new(state.Open, state.OpenDirectory) { GivenBackings = run.Image.GivenBackings };
    private bool _wroteAgain;

    /// <summary>How it came about.</summary>
    public CrashRun Run => run;

    /// <summary>What was left.</summary>
    public CrashState State => state;

    /// <summary>Opens files of the state.</summary>
    public NamedStorages Storages => _storages;

    /// <summary>Whether the image goes on being used after the comparison; the most expensive part.</summary>
    public bool GoesOn { get; init; } = true;

    /// <summary>All promises: the image checks without corruption, the guest finds what it may, snapshots are as they were, bitmaps cover what changed or say that
    /// they do not, and the image can be written to again.</summary>
    public async Task VerifyAsync()
    {
        // Refcounts of a dirty image may be wrong; opening it for writing repairs it.
        if (!LooksDirty())
        {
            await CheckAsync("after the cut");
        }

        var content = await ReadAsync();
        CrashViolation.ThrowIf(run.Guest.Compare(state.Time, content));
        await VerifySnapshotsAsync(run.Image.Snapshots);
        await VerifyBitmapsAsync(content);
        VerifyRawDataFile(content.Length);
        if (GoesOn)
        {
            await GoOnAsync(content, run.Image.Snapshots);
        }
    }

    /// <summary>The promises of operations that happen wholly or not at all: the image checks without corruption, is one of the worlds it may be, and can be written to again.</summary>
    public async Task VerifyWorldAsync()
    {
        if (!LooksDirty())
        {
            await CheckAsync("after the cut");
        }

        var content = await ReadAsync();
        var problems = new List<string>();
        foreach (var world in run.WorldsAt(state.Time))
        {
            try
            {
                CrashViolation.ThrowIf(world.Difference(content));
                await VerifySnapshotsAsync(world.Snapshots);
                await VerifyBitmapListAsync(world.Bitmaps);
                await GoOnAsync(content, world.Snapshots);
                return;
            }
            catch (CrashViolation e) when (!_wroteAgain)
            {
                problems.Add($"not '{world.Name}': {e.Message}");
            }
        }

        throw new CrashViolation(string.Join('\n', problems));
    }

    /// <summary>Checks the image: leaks are allowed, nothing else.</summary>
    public async Task CheckAsync(string when)
    {
        var findings = new List<string>();
        await using var node = await _storages.OpenAsync(CrashImage.Top, metadataOnly: true);
        var report = await node.CheckAsync(f =>
        {
            if (f.Severity is CheckSeverity.Corruption or CheckSeverity.Error && findings.Count < 8)
            {
                findings.Add(f.Message);
            }
        });
        CrashViolation.ThrowIf(report.Corruptions == (IsUnclean() ? 1 : 0) && report.Errors == 0
            ? null
            : $"check {when}: {report.Corruptions} corruptions, {report.Errors} errors:\n  {string.Join("\n  ", findings)}");
    }

    /// <summary>What the guest reads.</summary>
    public async Task<byte[]> ReadAsync(string name = CrashImage.Top, string? snapshot = null)
    {
        await using var node = await _storages.OpenAsync(name, snapshot: snapshot);
        return await ReadAllAsync(node);
    }

    /// <summary>The image has these snapshots and no others, and they read as ever.</summary>
    public async Task VerifySnapshotsAsync(IReadOnlyDictionary<string, byte[]> snapshots)
    {
        await using (var node = await _storages.OpenAsync(CrashImage.Top))
        {
            var names = string.Join(", ", node.Snapshots.Select(s => s.Name).Order(StringComparer.Ordinal));
            var wanted = string.Join(", ", snapshots.Keys.Order(StringComparer.Ordinal));
            CrashViolation.ThrowIf(names == wanted ? null : $"the snapshots are '{names}', they should be '{wanted}'");
        }

        foreach (var (name, content) in snapshots)
        {
            var found = await ReadAsync(snapshot: name);
            CrashViolation.ThrowIf(Difference($"snapshot '{name}'", content, found));
        }
    }

    // The guest may have changed what differs from the beginning: that must be in every bitmap that claims to know.
    private async Task VerifyBitmapsAsync(byte[] content)
    {
        await using var node = await _storages.OpenAsync(CrashImage.Top);
        foreach (var bitmap in node.Bitmaps.Where(b => b is { InUse: false, Enabled: true }))
        {
            var dirty = new List<DirtyRange>();
            await foreach (var range in node.ReadBitmapAsync(bitmap.Name))
            {
                dirty.Add(range);
            }

            // What a smaller disk has lost is no change, and a larger one begins clean there.
            for (var at = 0; at + 512 <= Math.Min(content.Length, run.SmallestSize); at += 512)
            {
                var changed = !content.AsSpan(at, 512).SequenceEqual(run.Image.Content.AsSpan(at, 512));
                CrashViolation.ThrowIf(changed && !dirty.Exists(d => d.Offset.Value <= at && d.Offset.Value + d.Length > at)
                    ? $"bitmap '{bitmap.Name}' says that it is consistent, and does not have the change at guest offset 0x{at:x}"
                    : null);
            }
        }
    }

    // Exactly these bitmaps; one that is enabled may say that it is inconsistent, every other has exactly its bits.
    private async Task VerifyBitmapListAsync(IReadOnlyList<CrashBitmap>? bitmaps)
    {
        if (bitmaps is null)
        {
            return;
        }

        await using var node = await _storages.OpenAsync(CrashImage.Top);
        if (run.MayLoseBitmaps && node.Bitmaps.Count == 0 && run.WorldsAt(state.Time).Count > 1)
        {
            return;
        }

        var found = string.Join(", ", node.Bitmaps.Select(b => $"{b.Name} of {b.Granularity} {b.Enabled}"));
        var wanted = string.Join(", ", bitmaps.Select(b => $"{b.Name} of {b.Granularity} {b.Enabled}"));
        CrashViolation.ThrowIf(found == wanted ? null : $"the bitmaps are '{found}', they should be '{wanted}'");
        foreach (var (bitmap, info) in bitmaps.Zip(node.Bitmaps))
        {
            if (info.InUse)
            {
                CrashViolation.ThrowIf(bitmap.Enabled ? null : $"bitmap '{bitmap.Name}' is inconsistent although it is not enabled");
                continue;
            }

            var bits = new HashSet<long>();
            await foreach (var range in node.ReadBitmapAsync(bitmap.Name))
            {
                for (var at = range.Offset.Value; at < range.Offset.Value + range.Length; at += bitmap.Granularity)
                {
                    bits.Add(at / bitmap.Granularity);
                }
            }

            CrashViolation.ThrowIf(bits.SetEquals(bitmap.Bits)
                ? null
                : $"bitmap '{bitmap.Name}' has the bits {string.Join(' ', bits.Order().Take(20))}, it should have {string.Join(' ', bitmap.Bits.Order().Take(20))}");
        }
    }

    // The file may end with the cluster instead of the disk, as with the peer.
    private void VerifyRawDataFile(int size)
    {
        if (run.Image.HasRawDataFile)
        {
            var bytes = state.Bytes(CrashImage.Data);
            Array.Resize(ref bytes, size);
            var problem = run.Guest.Compare(state.Time, bytes);
            CrashViolation.ThrowIf(problem is null ? null : $"the raw data file: {problem}");
        }
    }

    // A Parallels image that was open when the power was cut says so; that alone is called a corruption.
    private bool IsUnclean() => run.Image.IsParallels && BinaryPrimitives.ReadUInt32LittleEndian(state.Bytes(CrashImage.Top).AsSpan(44)) == 0x746F6E59;

    // Bit 0 of the incompatible features of a version 3 header. Dirty or not, nothing is metadata and something else as well.
    private bool LooksDirty()
    {
        if (run.Image.IsParallels)
        {
            return false;
        }

        var header = state.Bytes(CrashImage.Top).AsSpan();
        CrashViolation.ThrowIf(OverlapCheck.Find(header));
        return BinaryPrimitives.ReadUInt32BigEndian(header[4..]) >= 3 && (BinaryPrimitives.ReadUInt64BigEndian(header[72..]) & 1) != 0;
    }

    private async Task GoOnAsync(byte[] content, IReadOnlyDictionary<string, byte[]> snapshots)
    {
        _wroteAgain = true;
        await using (var node = await _storages.OpenAsync(CrashImage.Top, writable: true))
        {
            CrashViolation.ThrowIf(Difference("the disk opened for writing", content, await ReadAllAsync(node)));
            for (var i = 0; i < RecoveryRequests; i++)
            {
                await RequestAsync(node, content, i);
            }

            CrashViolation.ThrowIf(Difference("the disk written to after the cut", content, await ReadAllAsync(node)));
        }

        await CheckAsync("after writing and closing again");
        CrashViolation.ThrowIf(Difference("the disk written to after the cut and closed", content, await ReadAsync()));
        if (!run.ChangesBitmaps)
        {
            await VerifyBitmapsAsync(content);
        }

        await VerifySnapshotsAsync(snapshots);
    }

    private async Task RequestAsync(BlockNode node, byte[] content, int seed)
    {
        if (content.Length == 0)
        {
            return;
        }

        var (offset, length) = CrashGuest.Range(random, 4096, content.Length);
        var part = content.AsMemory((int)offset, length);
        switch (random.Next(6))
        {
            case 0:
                await node.WriteZeroesAsync(new(offset), length, WriteFlags.MayUnmap);
                part.Span.Clear();
                break;
            case 1:
                // What it leaves is the format's choice; that nothing else changes is compared at the end.
                await node.DiscardAsync(new(offset), length);
                await node.ReadAsync(new(offset), part);
                break;
            default:
                TestContent.Make(-1 - seed, offset, length).CopyTo(part);
                await node.WriteAsync(new(offset), part, random.Next(3) == 0 ? WriteFlags.ForceUnitAccess : WriteFlags.None);
                break;
        }
    }

    private static async Task<byte[]> ReadAllAsync(BlockNode node)
    {
        var content = new byte[node.VirtualSize];
        await node.ReadAsync(default, content);
        return content;
    }

    private static string? Difference(string what, byte[] wanted, byte[] found)
    {
        if (wanted.AsSpan().SequenceEqual(found))
        {
            return null;
        }

        if (wanted.Length != found.Length)
        {
            return $"{what} has {found.Length} bytes, not {wanted.Length}";
        }

        var sector = wanted.AsSpan().CommonPrefixLength(found) & ~511;
        return $"{what} holds {TestContent.Describe(found.AsSpan(sector, 512))} at guest offset 0x{sector:x}, it should hold {TestContent.Describe(wanted.AsSpan(sector, 512))}";
    }
}
