using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Metadata;
using Platter.Core.Units;
using Platter.Operations.Offline;

namespace Platter.Tests.Fuzz;

/// <summary>Does to an image what the commands do, in bounded amounts, and checks what every caller may rely on.</summary>
internal sealed class Workout(FuzzInput input, Random random, CancellationToken cancellationToken, int maxExtents = 60)
{
    private const int MaxRefusals = 4;
    private const int MaxRanges = 2000;
    private const int MaxFindings = 10_000;
    private const int MaxSnapshots = 3;
    private const int SampleBytes = 48 * 1024;
    private const long PieceBytes = 64L << 20;

    private readonly byte[] _buffer = new byte[SampleBytes];
    private int _findings;

    /// <summary>The name that refusals must mention.</summary>
    private string File => input.OpenName;

    /// <summary>A context over the input's files.</summary>
    /// <param name="storages">Opens them.</param>
    /// <param name="gate">Decides.</param>
    /// <param name="metadataOnly">As for <c>info</c>.</param>
    private OpenContext Context(StorageOpener storages, OpenGate gate, bool metadataOnly) => new()
    {
        Formats = KnownFormats.Registry,
        Storages = storages,
        Gate = gate,
        Codecs = KnownFormats.Codecs,
        Cache = new MetadataCache(1 << 20),
        Limits = new OpenLimits { MaxChainDepth = 8, MaxKeyIterations = input.MaxKeyIterations },
        Secrets = new AnySecret(),
        MetadataOnly = metadataOnly,
        Warn = Oracle.Line,
    };

    /// <summary>Everything.</summary>
    /// <param name="format">Declared, so that a broken magic is not taken for a raw disk; null to probe.</param>
    public async ValueTask RunAsync(string? format)
    {
        var opener = new MemoryOpener(input);
        await Oracle.AllowsAsync(File, async () =>
        {
            await using var node = await OpenAsync(opener, new ClosedGate("only the image itself is opened"), metadataOnly: true, format, null);
            await LookAsync(node);
        });
        DemandClosed(opener);
        if (IsBundle ? !opener.Opened.TrueForAll(InBundle) : opener.Opened.Count != 1)
        {
            throw new FuzzException($"info opened {string.Join(", ", opener.Opened)}");
        }

        opener = new MemoryOpener(input);
        var gate = new InputGate(input);
        IReadOnlyList<SnapshotInfo> snapshots = [];
        await Oracle.AllowsAsync(null, async () =>
        {
            await using var node = await OpenAsync(opener, gate, metadataOnly: false, format, null);
            snapshots = node.Snapshots;
            await UseAsync(node);
        });
        DemandClosed(opener);
        if (opener.Opened.Skip(1).Any(file => !InBundle(file) && !gate.Allows(file)))
        {
            throw new FuzzException($"opened {string.Join(", ", opener.Opened)}, allowed {string.Join(", ", gate.Allowed)}");
        }

        foreach (var snapshot in snapshots.Take(MaxSnapshots))
        {
            await Oracle.AllowsAsync(null, async () =>
            {
                await using var node = await OpenAsync(opener, gate, metadataOnly: false, format, new SnapshotSelector(snapshot.Id, null, null));
                await UseAsync(node);
            });
            DemandClosed(opener);
        }
    }

    /// <summary>What <c>info</c> and <c>check</c> do.</summary>
    public async ValueTask LookAsync(BlockNode node)
    {
        await Oracle.AllowsAsync(File, async () =>
        {
            var info = await node.GetInfoAsync(cancellationToken);
            var text = new StringWriter();
            InfoText.Write(text, info);
            Oracle.Page(text.ToString());
            var json = new StringWriter();
            var output = new JsonOutput(json);
            InfoJson.Write(output, info);
            output.Finish();
            Oracle.Page(json.ToString());
            using var parsed = System.Text.Json.JsonDocument.Parse(json.ToString());
        });
        await Oracle.AllowsAsync(null, async () => await node.CheckAsync(Note, null, cancellationToken));
    }

    /// <summary>What <c>map</c>, <c>convert</c> and <c>serve</c> do.</summary>
    public async ValueTask UseAsync(BlockNode node)
    {
        if (node.VirtualSize < 0)
        {
            throw new FuzzException($"the disk has {node.VirtualSize} bytes");
        }

        await MapAsync(node, MapDetail.Metadata);
        await MapAsync(node, MapDetail.StorageHoles);
        await Oracle.AllowsAsync(null, async () =>
        {
            var count = 0;
            await foreach (var entry in MapOperation.EnumerateAsync(node, GuestOffset.Zero, PieceBytes, cancellationToken))
            {
                if (++count > maxExtents)
                {
                    break;
                }
            }
        });
        await ReadAsync(node);
        foreach (var bitmap in node.Bitmaps.Take(4))
        {
            await Oracle.AllowsAsync(null, async () => await ReadBitmapAsync(node, bitmap.Name));
        }
    }

    private bool IsBundle => !input.Files.ContainsKey(input.OpenName);

    private bool InBundle(string file) => file.StartsWith(input.OpenName + "/", StringComparison.Ordinal);

    private ValueTask<BlockNode> OpenAsync(MemoryOpener opener, OpenGate gate, bool metadataOnly, string? format, SnapshotSelector? snapshot) =>
        new ImageOpener(Context(opener, gate, metadataOnly)).OpenAsync(
            new OpenRequest { Options = Options(metadataOnly), Format = format, Snapshot = snapshot }, cancellationToken);

    private NodeOptions Options(bool metadataOnly) => metadataOnly || !input.IsEncrypted
        ? NodeOptions.ForFile(input.OpenName)
        : new NodeOptions { ["driver"] = "qcow2", ["file.driver"] = "file", ["file.filename"] = input.OpenName, ["encrypt.key-secret"] = "s" };

    private async ValueTask MapAsync(BlockNode node, MapDetail detail)
    {
        // Refusals are slow to throw: a few of them tell as much as many.
        var at = GuestOffset.Zero;
        var refusals = 0;
        for (var count = 0; at.Value < node.VirtualSize && count < maxExtents; count++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var wanted = Math.Min(node.VirtualSize - at.Value, random.Next(8) == 0 ? random.Next(1, 100_000) : long.MaxValue);
            var extent = default(Extent);
            if (await Oracle.AllowsAsync(null, async () => extent = await node.MapAsync(at, wanted, detail, cancellationToken)))
            {
                Demand(extent, at, wanted);
                at = extent.End;
            }
            else
            {
                // Whatever is broken here: the rest of the disk has an answer of its own.
                at = new(Math.Min(node.VirtualSize, (at.Value | 511) + 1));
                if (++refusals > MaxRefusals)
                {
                    return;
                }
            }

            if (count > maxExtents / 2)
            {
                at = new(Math.Max(at.Value, random.NextInt64(node.VirtualSize)));
            }
        }
    }

    private async ValueTask ReadAsync(BlockNode node)
    {
        var size = node.VirtualSize;
        for (var i = 0; i < 4 && size > 0; i++)
        {
            var length = (int)Math.Min(size, i == 0 ? SampleBytes : random.Next(1, SampleBytes));
            var at = i switch
            {
                0 => 0,
                1 => size - length,
                _ => random.NextInt64(size - length + 1),
            };
            await Oracle.AllowsAsync(null, () => node.ReadAsync(new GuestOffset(at), _buffer.AsMemory(0, length), cancellationToken));
        }
    }

    private async ValueTask ReadBitmapAsync(BlockNode node, string name)
    {
        long end = -1;
        var count = 0;
        await foreach (var range in node.ReadBitmapAsync(name, cancellationToken))
        {
            if (range.Length <= 0 || range.Offset.Value <= end || range.End() > node.VirtualSize)
            {
                throw new FuzzException($"bitmap range {range.Offset} + {range.Length} after 0x{end:x} on a disk of 0x{node.VirtualSize:x}");
            }

            end = range.End();
            if (++count > MaxRanges)
            {
                break;
            }
        }
    }

    private void Note(CheckFinding finding)
    {
        if (++_findings < MaxFindings)
        {
            Oracle.Line(finding.Message);
        }

        if (finding.HostOffset?.Value < 0 || finding.GuestOffset?.Value < 0 || finding.GuestLength < 0)
        {
            throw new FuzzException($"a finding at {finding.HostOffset}, guest {finding.GuestOffset} for {finding.GuestLength}: {finding.Message}");
        }
    }

    private static void Demand(in Extent extent, GuestOffset at, long wanted)
    {
        var where = $"the extent asked for at {at} for {wanted} bytes";
        if (extent.Offset != at || extent.Length <= 0 || extent.Length > wanted)
        {
            throw new FuzzException($"{where} is {extent.Offset} + {extent.Length}");
        }

        var needsStorage = extent.Kind is ExtentKind.Data or ExtentKind.Encoded;
        if (needsStorage && extent.Storage is null)
        {
            throw new FuzzException($"{where} has no storage");
        }

        if (extent.Storage is not null && (extent.HostOffset.Value < 0 || extent.HostOffset.Value > long.MaxValue - extent.Length))
        {
            throw new FuzzException($"{where} is at host offset {extent.HostOffset}");
        }

        if (extent.Kind == ExtentKind.Encoded && extent.Driver is null)
        {
            throw new FuzzException($"{where} has no driver");
        }
    }

    private static void DemandClosed(MemoryOpener opener)
    {
        if (!opener.AllClosed)
        {
            throw new FuzzException("a storage was left open");
        }
    }

    private sealed class AnySecret : ISecretSource
    {
        public ReadOnlyMemory<byte> Get(string id) => "secret"u8.ToArray();
    }
}
