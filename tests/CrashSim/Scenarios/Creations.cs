using System.Text;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Formats.Qcow2;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>An image is made where nothing was, or in the place of another one. At every cut there is the old image, or nothing that anybody would take for one, or the new one, whole; once
/// it has been made it is there.</summary>
/// <param name="name">What is special.</param>
/// <param name="options">As for <c>create -o</c>.</param>
/// <param name="clusters">Bytes of the disk, in units of 4 KiB.</param>
internal sealed class Creations(string name, string options, int clusters) : CrashScenario
{
    private const string Made = "made", Opening = "opening";

    private bool HasDataFile => options.Contains("data_file=", StringComparison.Ordinal);

    private bool HasBacking => options.Contains("backing_file=", StringComparison.Ordinal);

    private string? Secret => options.Contains("key-secret=", StringComparison.Ordinal) ? "a" : null;

    public override string Name => $"create-{name}";

    public override string Operation => "create";

    public override bool IsExhaustive => true;

    public override int ExhaustiveBound => 300;

    public override CrashImage Prepare(Random random)
    {
        var size = (clusters * 4096L) - 512;
        var old = new DiskShape("old") { Clusters = 6 }.Build(random);
        var below = HasBacking ? new ReferenceDisk(size - 1024) : null;
        below?.Fill(99, 0, (int)below.Size);
        var files = new Dictionary<string, byte[]> { [CrashImage.Top] = random.Next(2) == 0 ? [] : old.Files[CrashImage.Top] };
        if (HasDataFile)
        {
            files[CrashImage.Data] = random.Next(2) == 0 ? [] : TestContent.Make(5, 0, (int)size);
        }

        var content = new byte[size];
        if (below is not null)
        {
            files[CrashImage.Base] = below.ToArray();
            below.ToArray().CopyTo(content, 0);
        }

        return new() { Files = files, Content = content, Below = below, HasRawDataFile = options.Contains("data_file_raw=on", StringComparison.Ordinal) };
    }

    public override async Task RunAsync(CrashRun run)
    {
        var format = new Qcow2Format();
        await using var storage = run.Disk.Find(CrashImage.Top)!.Open(writable: true);
        var context = new CreateContext
        {
            Secrets = new OneSecret(),
            OpenDataFileAsync = (file, _) => new(run.Disk.Find(file)!.Open(writable: true)),
        };
        await format.CreateAsync(storage, run.Image.Content.Length, format.CreateOptions.Normalize(NodeOptions.ParseKeyValues(options)), context);
        run.Mark(Made);
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        var (run, state) = (verifier.Run, verifier.State);
        if (!await OpensAsync(verifier.Storages))
        {
            CrashViolation.ThrowIf(run.Happened(Made, state) ? "the image that was made does not open" : null);
            return;
        }

        if (state.Bytes(CrashImage.Top).AsSpan().SequenceEqual(run.Image.Files[CrashImage.Top]))
        {
            CrashViolation.ThrowIf(run.Happened(Made, state) ? "there is the old image" : null);
            return;
        }

        await using (var node = await OpenAsync(verifier.Storages, metadataOnly: true))
        {
            var report = await node.CheckAsync(static _ => { });
            CrashViolation.ThrowIf(report is { Corruptions: 0, Errors: 0, Leaks: 0 } ? null : $"the new image checks with {report}");
        }

        if (Secret is not null)
        {
            await using var node = await OpenAsync(verifier.Storages);
            var found = new byte[node.VirtualSize];
            await node.ReadAsync(default, found);
            CrashViolation.ThrowIf(found.AsSpan().SequenceEqual(run.Image.Content) ? null : "the new image does not read as zeros");
            return;
        }

        await verifier.VerifyAsync();
    }

    private async Task<bool> OpensAsync(NamedStorages storages)
    {
        try
        {
            await using var node = await OpenAsync(storages);
            return true;
        }
        catch (BlockException e) when (e.Kind is BlockErrorKind.WrongFormat or BlockErrorKind.CorruptImage)
        {
            return false;
        }
    }

    private ValueTask<BlockNode> OpenAsync(NamedStorages storages, bool metadataOnly = false)
    {
        var known = storages.Context(metadataOnly);
        var context = new OpenContext
        {
            Formats = known.Formats, Storages = storages, Gate = known.Gate, Codecs = known.Codecs, Secrets = new OneSecret(), DefaultSecretId = Secret,
            MetadataOnly = metadataOnly,
        };
        return new ImageOpener(context).OpenAsync(new OpenRequest { Options = NodeOptions.ForFile(CrashImage.Top), Format = "qcow2" });
    }

    private sealed class OneSecret : ISecretSource
    {
        public ReadOnlyMemory<byte> Get(string id) => Encoding.UTF8.GetBytes($"password {id}");
    }
}
