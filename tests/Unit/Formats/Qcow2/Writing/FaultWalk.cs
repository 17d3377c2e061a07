using System.Buffers.Binary;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>An operation on files in memory, run again and again: its first request failing, then its second, until none fails; with EIO for one request, with ENOSPC
/// from one request on, and with reads that fail. What is left each time is judged.</summary>
internal sealed class FaultWalk
{
    /// <summary>The name of the image.</summary>
    public const string Top = "disk.qcow2";

    /// <summary>The name of its backing file.</summary>
    public const string Base = "base.raw";

    private readonly Dictionary<string, byte[]> _files;

    /// <summary>A walk over an image that was built, and what it names.</summary>
    public FaultWalk(Qcow2Builder builder, Action<Qcow2Image>? change = null)
    {
        var image = builder.Build();
        change?.Invoke(image);
        _files = new() { [Top] = image.Bytes.ToArray() };
        if (builder.Backing is { } below)
        {
            _files[Base] = below.ToArray();
        }

        Content = image.Model.ToArray();
        Snapshots = image.Snapshots.ToDictionary(s => Encoding.UTF8.GetString(s.Snapshot.Name), s => s.Model.ToArray());
    }

    /// <summary>What the guest reads before.</summary>
    public byte[] Content { get; }

    /// <summary>What is in the snapshots before.</summary>
    public IReadOnlyDictionary<string, byte[]> Snapshots { get; }

    /// <summary>Adds a file.</summary>
    public void Add(string name, byte[] bytes) => _files.Add(name, bytes);

    /// <summary>Walks.</summary>
    /// <param name="operation">On <see cref="WalkDisk.Failing"/>.</param>
    /// <param name="verify">On <see cref="WalkDisk.Healthy"/>: told when, and whether the operation has failed.</param>
    /// <param name="least">So many requests are made at least; else there was nothing to fail.</param>
    public async Task RunAsync(Func<WalkDisk, Task> operation, Func<WalkDisk, string, bool, Task> verify, int least = 5)
    {
        foreach (var (kinds, kind, goesOn) in new[] { ("wfl", BlockErrorKind.Io, false), ("wfl", BlockErrorKind.NoSpace, true), ("r", BlockErrorKind.Io, false) })
        {
            for (var n = 0; ; n++)
            {
                var counter = new FaultCounter(kinds, kind, goesOn);
                var disk = new WalkDisk(_files, counter);
                counter.FailAfter(n);
                BlockException? error = null;
                try
                {
                    await operation(disk);
                }
                catch (BlockException e)
                {
                    error = e;
                }

                var when = $"{kinds} {kind}, request {n} ({counter.Failed ?? "none"} failed)";
                Assert.True(counter.Failed is not null || error is null, $"{when}: {error}");
                Assert.True(counter.Failed is null || error is not null || kinds == "r", $"{when}: the error was kept from the caller");
                Assert.True(disk.IsClosed, $"{when}: files were left open");
                await VerifyAsync(verify, disk, when, error is not null);
                if (counter.Failed is null)
                {
                    Assert.True(n >= least, $"only {n} requests");
                    break;
                }
            }
        }
    }

    /// <summary>The image checks without corruption, unless it says that its refcounts may be wrong.</summary>
    public static async Task AssertUncorruptedAsync(WalkDisk disk, string when, bool leaksToo = false)
    {
        if (IsDirty(disk))
        {
            return;
        }

        await using var node = await disk.Healthy.OpenAsync(Top, metadataOnly: true);
        var findings = new List<string>();
        var report = await node.CheckAsync(f => findings.Add(f.Message));
        Assert.True(report is { Corruptions: 0, Errors: 0 } && (!leaksToo || report.Leaks == 0), $"{when}: {string.Join("\n", findings.Take(10))}");
    }

    /// <summary>The disk and every snapshot read as before the operation.</summary>
    public async Task AssertSameAsync(WalkDisk disk, string when)
    {
        await using (var node = await disk.Healthy.OpenAsync(Top))
        {
            AssertEqual(Content, await WalkGuest.ReadAllAsync(node), $"{when}: the disk");
            Assert.Equal(Snapshots.Keys.Order(StringComparer.Ordinal), node.Snapshots.Select(s => s.Name).Order(StringComparer.Ordinal));
        }

        await AssertSnapshotsAsync(disk, when);
    }

    /// <summary>Every snapshot that was there before reads as it did.</summary>
    public async Task AssertSnapshotsAsync(WalkDisk disk, string when)
    {
        foreach (var (name, content) in Snapshots)
        {
            await using var node = await disk.Healthy.OpenAsync(Top, snapshot: name);
            AssertEqual(content, await WalkGuest.ReadAllAsync(node), $"{when}: snapshot '{name}'");
        }
    }

    /// <summary>The image can be written to, closed and read again.</summary>
    public static async Task AssertUsableAsync(WalkDisk disk, string when)
    {
        byte[] content;
        await using (var node = await disk.Healthy.OpenAsync(Top, writable: true))
        {
            content = await WalkGuest.ReadAllAsync(node);
            var at = content.Length / 3;
            var bytes = TestContent.Make(-7, at, content.Length / 3);
            bytes.CopyTo(content, at);
            await node.WriteAsync(new(at), bytes);
        }

        await AssertUncorruptedAsync(disk, $"{when}, used again");
        Assert.False(IsDirty(disk), $"{when}, used again: dirty");
        await using var reopened = await disk.Healthy.OpenAsync(Top);
        AssertEqual(content, await WalkGuest.ReadAllAsync(reopened), $"{when}, used again: the disk");
    }

    public static void AssertEqual(byte[] wanted, byte[] found, string what)
    {
        Assert.True(wanted.Length == found.Length, $"{what} has {found.Length} bytes, not {wanted.Length}");
        var same = wanted.AsSpan().CommonPrefixLength(found);
        Assert.True(same == wanted.Length, $"{what} reads otherwise at 0x{same:x}");
    }

    /// <summary>Bit 0 of the incompatible features of a version 3 header.</summary>
    public static bool IsDirty(WalkDisk disk)
    {
        var header = disk.Bytes(Top).AsSpan();
        return BinaryPrimitives.ReadUInt32BigEndian(header[4..]) >= 3 && (BinaryPrimitives.ReadUInt64BigEndian(header[72..]) & 1) != 0;
    }

    // An error while looking is one of what was left.
    private static async Task VerifyAsync(Func<WalkDisk, string, bool, Task> verify, WalkDisk disk, string when, bool failed)
    {
        try
        {
            await verify(disk, when, failed);
        }
        catch (BlockException e)
        {
            Assert.Fail($"{when}: {e}");
        }
    }
}
