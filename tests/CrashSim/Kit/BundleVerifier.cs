using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>What is demanded of a bundle after a power cut: it opens with the old or the new state, all of its snapshots with it; opened for writing it goes on, and then nothing
/// is left of what was interrupted.</summary>
internal sealed class BundleVerifier(CrashVerifier verifier, string top, string disk)
{
    private readonly NamedStorages _storages = verifier.Storages;

    /// <summary>Whether a guest may have been writing: then the current state's images are found open, as after any such cut.</summary>
    public bool MayBeOpen { get; init; }

    /// <summary>All of it.</summary>
    public async Task VerifyAsync()
    {
        await VerifyCheckAsync();
        if (verifier.State.Time % 2 == 0)
        {
            // Somebody cleans up by hand before the disk is used again.
            await CleanUpAsync();
        }

        var problems = new List<string>();
        CrashWorld? found = null;
        foreach (var world in verifier.Run.WorldsAt(verifier.State.Time))
        {
            try
            {
                await VerifyWorldAsync(world);
                found = world;
                break;
            }
            catch (CrashViolation e)
            {
                problems.Add($"not '{world.Name}': {e.Message}");
            }
        }

        if (found is null)
        {
            throw new CrashViolation(string.Join('\n', problems));
        }

        // A half finished change of the size comes to its end here, so that another world may be the true one now.
        byte[] content;
        await using (var node = await _storages.OpenAsync(top, writable: true))
        {
            content = await ReadAllAsync(node);
            var now = found.Difference(content) is null ? found : verifier.Run.WorldsAt(verifier.State.Time).FirstOrDefault(w => w.Difference(content) is null);
            CrashViolation.ThrowIf(now is null ? $"opened for writing it is none of the worlds any more; it was '{found.Name}'" : null);
            found = now! with { Content = content };
            TestContent.Make(-7, 512, 1024).CopyTo(content.AsSpan(512));
            await node.WriteAsync(new(512), content.AsMemory(512, 1024));
            await node.CreateSnapshotAsync("after", DateTimeOffset.UnixEpoch);
        }

        var snapshots = new Dictionary<string, byte[]>(found.Snapshots) { ["after"] = content };
        await VerifyWorldAsync(new("taken after the cut", content, snapshots));
        await using (var node = await _storages.OpenAsync(top, writable: true))
        {
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse("after"));
        }

        snapshots.Remove("after");
        await VerifyWorldAsync(new("deleted after the cut", content, snapshots));
        await VerifyNothingIsLeftAsync();
    }

    private async Task VerifyWorldAsync(CrashWorld world)
    {
        await using (var node = await _storages.OpenAsync(top))
        {
            CrashViolation.ThrowIf(world.Difference(await ReadAllAsync(node)));
            var names = string.Join(", ", node.Snapshots.Select(s => s.Name).Order(StringComparer.Ordinal));
            var wanted = string.Join(", ", world.Snapshots.Keys.Order(StringComparer.Ordinal));
            CrashViolation.ThrowIf(names == wanted ? null : $"the snapshots are '{names}', they should be '{wanted}'");
        }

        foreach (var (name, content) in world.Snapshots)
        {
            await using var node = await _storages.OpenAsync(top, snapshot: name);
            var found = await ReadAllAsync(node);

            // A disk that was resized shows its snapshots cut, or with zeros behind them.
            var same = Math.Min(found.Length, content.Length);
            CrashViolation.ThrowIf(
                found.AsSpan(0, same).SequenceEqual(content.AsSpan(0, same)) && !found.AsSpan(same).ContainsAnyExcept((byte)0) ? null : $"snapshot '{name}' differs");
        }
    }

    // Whatever was interrupted, a check finds wasted space at worst, and says what wastes it.
    private async Task VerifyCheckAsync()
    {
        var findings = new List<CheckFinding>();
        await using var node = await _storages.OpenAsync(top, metadataOnly: true);
        var report = await node.CheckAsync(findings.Add);
        var bad = findings.Where(f => (f.Severity is CheckSeverity.Corruption or CheckSeverity.Error && !IsGuests(f)) || IsStray(f)).ToList();
        CrashViolation.ThrowIf(bad.Count == 0 ? null : $"check finds: {string.Join("; ", bad.Select(f => $"{f.File}: {f.Message}"))}");
        var left = Leftovers().Except(findings.Where(f => f.Severity == CheckSeverity.Leak).Select(f => f.File)).ToList();
        CrashViolation.ThrowIf(left.Count == 0 ? null : $"check says nothing of {string.Join(", ", left)}");
        CrashViolation.ThrowIf(report.Errors == 0 ? null : $"check has {report.Errors} errors");
    }

    private async Task CleanUpAsync()
    {
        await using (var node = await _storages.OpenAsync(top, forRepair: true))
        {
            await node.RepairAsync(new RepairOptions(RepairMode.Leaks), _ => { });
        }

        var findings = new List<CheckFinding>();
        await using (var node = await _storages.OpenAsync(top, metadataOnly: true))
        {
            await node.CheckAsync(findings.Add);
        }

        var bad = findings.Where(f => (f.Severity != CheckSeverity.Note && !IsGuests(f)) || IsStray(f)).ToList();
        CrashViolation.ThrowIf(bad.Count == 0 ? null : $"after check -r leaks, check finds: {string.Join("; ", bad.Select(f => $"{f.File}: {f.Message}"))}");
        CrashViolation.ThrowIf(Leftovers().Any() ? $"after check -r leaks, left over: {string.Join(", ", Leftovers())}" : null);
    }

    private bool IsGuests(CheckFinding finding) => MayBeOpen && finding.Message == "image was not closed correctly";

    // An image that nobody can tell from the last copy of something.
    private static bool IsStray(CheckFinding finding) => finding.Message.Contains("no image of the descriptor names", StringComparison.Ordinal);

    private IEnumerable<string> Leftovers() => verifier.State.OpenDirectory(disk)!.ListFiles()
        .Where(f => f.EndsWith(".new", StringComparison.Ordinal) || f.EndsWith(".changes", StringComparison.Ordinal));

    private async Task VerifyNothingIsLeftAsync()
    {
        var findings = new List<string>();
        await using (var node = await _storages.OpenAsync(top, metadataOnly: true))
        {
            await node.CheckAsync(f =>
            {
                // A disk that was resized has smaller snapshots; a deleted one on which two stand stays as a layer.
                if (f.Severity != CheckSeverity.Note || IsStray(f))
                {
                    findings.Add($"{f.Severity} {f.File}: {f.Message}");
                }
            });
        }

        CrashViolation.ThrowIf(findings.Count == 0 ? null : $"check finds: {string.Join("; ", findings)}");
        CrashViolation.ThrowIf(Leftovers().Any() ? $"left over: {string.Join(", ", Leftovers())}" : null);
    }

    private static async Task<byte[]> ReadAllAsync(BlockNode node)
    {
        var content = new byte[node.VirtualSize];
        await node.ReadAsync(default, content);
        return content;
    }
}
