using System.Text.Json.Nodes;
using Platter.Core.Codecs;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Metadata;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Platter.Formats.Raw;
using Platter.Host.Codecs;
using Platter.Host.Files;
using Platter.Operations.Offline;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Formats;

/// <summary>Opens images of the real tool with our reader, and says where the two differ.</summary>
internal static class Qcow2Interop
{
    public static OpenContext Context(bool metadataOnly = false, CodecProvider? codecs = null, ISecretSource? secrets = null, MetadataCache? cache = null) => new()
    {
        Formats = new FormatRegistry([new RawFormat(), new Qcow2Format()], []),
        Storages = new FilesOnly(),
        Gate = new LocalFilesGate(),
        Codecs = codecs ?? HostCodecs.Instance,
        MetadataOnly = metadataOnly,
        Secrets = secrets ?? NoSecrets.Instance,
        Cache = cache ?? new MetadataCache(MetadataCache.DefaultBudgetBytes),
    };

    public static ValueTask<BlockNode> OpenAsync(string path, OpenContext? context = null, string? snapshot = null) =>
        OpenAsync(NodeOptions.ForFile(path), context, snapshot);

    public static ValueTask<BlockNode> OpenAsync(NodeOptions options, OpenContext? context = null, string? snapshot = null) =>
        new ImageOpener(context ?? Context()).OpenAsync(new OpenRequest
        {
            Options = options,
            Snapshot = snapshot is null ? null : SnapshotSelector.Parse(snapshot),
        });

    public static ToolResult QemuImg(params string[] arguments) => ToolRunner.RunChecked("qemu-img", arguments);

    public static ToolResult QemuIo(string image, params string[] commands) =>
        ToolRunner.RunChecked("qemu-io", [.. commands.SelectMany(c => new[] { "-c", c }), image]);

    /// <summary>Reads the whole disk through the mover and compares it with the tool's raw copy.</summary>
    public static async Task AssertSameContentAsync(BlockNode node, string image, TempFolder folder, params string[] convertOptions)
    {
        var raw = folder[$"expected-{Guid.NewGuid():N}.raw"];
        QemuImg(["convert", .. convertOptions, "-O", "raw", image, raw]);
        await using var expected = FileStorage.Open(raw);
        Assert.Equal(expected.Length, node.VirtualSize);
        await AssertSameBytesAsync(expected, node);
        File.Delete(raw);
    }

    public static async Task AssertSameBytesAsync(Storage expected, BlockNode node)
    {
        // An odd size, so that requests start and end anywhere in clusters.
        var ours = new byte[(1 << 20) - 3072 + 512];
        var theirs = new byte[ours.Length];
        for (long at = 0; at < node.VirtualSize; at += ours.Length)
        {
            var count = (int)Math.Min(ours.Length, node.VirtualSize - at);
            await node.ReadAsync(new GuestOffset(at), ours.AsMemory(0, count));
            var read = await expected.ReadAsync(new HostOffset(at), theirs.AsMemory(0, count));
            theirs.AsSpan(read, count - read).Clear();
            if (!ours.AsSpan(0, count).SequenceEqual(theirs.AsSpan(0, count)))
            {
                var first = ours.AsSpan(0, count).CommonPrefixLength(theirs.AsSpan(0, count));
                Assert.Fail($"byte 0x{at + first:x} is {ours[first]:x2}, expected {theirs[first]:x2}");
            }
        }
    }

    /// <summary>Compares the map with the tool's, entry for entry.</summary>
    public static async Task AssertSameMapAsync(BlockNode node, string image, params string[] mapOptions)
    {
        var theirs = QemuImg(["map", "--output=json", .. mapOptions, image]).Text.Trim();
        var lines = new List<string>();
        await foreach (var entry in MapOperation.EnumerateAsync(node, GuestOffset.Zero, long.MaxValue))
        {
            var json = new JsonObject
            {
                ["start"] = entry.Start.Value,
                ["length"] = entry.Length,
                ["depth"] = entry.Depth,
                ["present"] = entry.Present,
                ["zero"] = entry.Zero,
                ["data"] = entry.Data,
            };
            if (entry.HostOffset is { } offset)
            {
                json["offset"] = offset.Value;
            }

            lines.Add(json.ToJsonString());
        }

        // The peer's tool does not know compression in its map and so merges across it.
        Assert.Equal(
            Merge(JsonNode.Parse(theirs)!.AsArray().Select(e => e!.ToJsonString())), Merge(lines));
    }

    /// <summary>Compares what info tells with the tool's, as parsed JSON.</summary>
    public static async Task AssertSameInfoAsync(BlockNode node, string image, params string[] more)
    {
        var theirs = JsonNode.Parse(QemuImg(["info", "--output=json", .. more, image]).Text)!.AsObject();
        var info = await node.GetInfoAsync();
        var ours = new JsonObject
        {
            ["virtual-size"] = info.VirtualSize,
            ["filename"] = info.FileName,
            ["cluster-size"] = info.ClusterSize,
            ["format"] = info.Format,
            ["actual-size"] = info.AllocatedSize,
            ["format-specific"] = new JsonObject { ["type"] = "qcow2", ["data"] = info.FormatSpecific!.DeepClone() },
            ["dirty-flag"] = info.Dirty,
        };
        Add(ours, "backing-filename", info.BackingName);
        Add(ours, "full-backing-filename", info.FullBackingName);
        Add(ours, "backing-filename-format", info.BackingFormat);
        if (info.Encrypted)
        {
            ours["encrypted"] = true;
        }

        if (info.Snapshots.Count > 0)
        {
            ours["snapshots"] = new JsonArray([.. info.Snapshots.Select(Snapshot)]);
        }

        Assert.True(JsonNode.DeepEquals(theirs, ours), $"theirs: {theirs}\nours: {ours}");
    }

    private static JsonObject Snapshot(SnapshotInfo snapshot)
    {
        var result = new JsonObject
        {
            ["id"] = snapshot.Id,
            ["name"] = snapshot.Name,
            ["vm-state-size"] = snapshot.VmStateSize,
            ["date-sec"] = snapshot.Date.ToUnixTimeSeconds(),
            ["date-nsec"] = snapshot.DateNanoseconds,
            ["vm-clock-sec"] = snapshot.VmClockNanoseconds / 1_000_000_000,
            ["vm-clock-nsec"] = snapshot.VmClockNanoseconds % 1_000_000_000,
        };
        if (snapshot.InstructionCount is { } count)
        {
            result["icount"] = count;
        }

        return result;
    }

    private static void Add(JsonObject json, string key, string? value)
    {
        if (value is not null)
        {
            json[key] = value;
        }
    }

    // Our own entries tell compressed from other encoded clusters; the tool of this version does not, and merges.
    private static List<string> Merge(IEnumerable<string> entries)
    {
        var result = new List<JsonObject>();
        foreach (var text in entries)
        {
            var next = JsonNode.Parse(text)!.AsObject();
            if (result.Count > 0 && Joins(result[^1], next))
            {
                result[^1]["length"] = result[^1]["length"]!.GetValue<long>() + next["length"]!.GetValue<long>();
            }
            else
            {
                result.Add(next);
            }
        }

        return [.. result.Select(e => e.ToJsonString())];
    }

    private static bool Joins(JsonObject left, JsonObject right) =>
        new[] { "depth", "present", "zero", "data" }.All(k => left[k]!.ToJsonString() == right[k]!.ToJsonString())
        && (left["offset"] is null
            ? right["offset"] is null
            : right["offset"] is { } offset && offset.GetValue<long>() == left["offset"]!.GetValue<long>() + left["length"]!.GetValue<long>());

    private sealed class FilesOnly : StorageOpener
    {
        public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default) =>
            new(FileStorage.Open(options["filename"]!));

        public override bool IsDirectory(NodeOptions options) => false;

        public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public override bool IsStorageDriver(string driver) => driver == "file";
    }
}
