using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Parallels;
using Platter.Operations.Copy;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>A disk is copied into a new Parallels image, which cannot say that it is unfinished: its name does. At any cut it does not have its own name, and the copy can be resumed or begun again; or it is
/// the whole copy, closed as it should be. Once the conversion has ended it is.</summary>
/// <param name="version">The layout.</param>
internal sealed class HdsConversions(int version) : CrashScenario
{
    private const string Folder = "d", Target = "disk.hds", Unfinished = Target + ".unfinished", Source = "source.raw", Converted = "converted";
    private const int Size = 150 * 512;

    public override string Name => $"convert-hds-v{version}";

    public override string Operation => "convert to Parallels, convert --resume";

    public override int BoundedSeeds => 2;

    public override int SampledStates => 120;

    public override CrashImage Prepare(Random random)
    {
        var content = new byte[Size];
        for (var at = 0; at < Size; at += 4096)
        {
            if (random.Next(4) > 0)
            {
                TestContent.Make(6, at, Math.Min(4096, Size - at)).CopyTo(content, at);
            }
        }

        return new() { Files = new Dictionary<string, byte[]> { [Source] = content, [$"{Folder}/x"] = [] }, Content = content };
    }

    public override async Task RunAsync(CrashRun run)
    {
        await ConvertAsync(run.Disk.Directories[Folder], run.Storages, resumes: false);
        run.Mark(Converted);
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        var directory = verifier.State.OpenDirectory(Folder)!;
        if (!directory.FileExists(Target))
        {
            CrashViolation.ThrowIf(verifier.Run.Happened(Converted, verifier.State) ? "the conversion has ended, and there is no image" : null);
            await ConvertAsync(directory, verifier.Storages, resumes: directory.FileExists(Unfinished) && await ProblemAsync(verifier.Storages) is null);
        }

        CrashViolation.ThrowIf(directory.FileExists(Unfinished) ? "both names are there" : null);
        await using (var node = await verifier.Storages.OpenAsync($"{Folder}/{Target}", metadataOnly: true))
        {
            var report = await node.CheckAsync(static _ => { });
            CrashViolation.ThrowIf(report is { Corruptions: 0, Errors: 0, Leaks: 0 } ? null : $"check finds {report}");
        }

        await using (var node = await verifier.Storages.OpenAsync($"{Folder}/{Target}", writable: true))
        {
            CrashViolation.ThrowIf(node.FormatName == "parallels" ? null : $"it is taken for a {node.FormatName} image");
            var content = new byte[node.VirtualSize];
            await node.ReadAsync(default, content);
            CrashViolation.ThrowIf(new CrashWorld("converted", verifier.Run.Image.Content, new Dictionary<string, byte[]>()).Difference(content));
        }
    }

    // As ImageConversion does it.
    private async Task ConvertAsync(StorageDirectory directory, NamedStorages storages, bool resumes)
    {
        if (!resumes)
        {
            var format = new ParallelsFormat();
            await using var storage = directory.FileExists(Unfinished) ? await directory.OpenFileForWritingAsync(Unfinished) : await directory.CreateFileAsync(Unfinished);
            await format.CreateAsync(
                storage, Size, format.CreateOptions.Normalize(NodeOptions.ParseKeyValues($"cluster_size=4k,version={version}")), new CreateContext { Unfinished = true });
        }

        await using (var source = await new ImageOpener(storages.Context()).OpenAsync(new OpenRequest { Options = NodeOptions.ForFile(Source), Format = "raw" }))
        await using (var target = await OpenAsync(storages, writable: true))
        {
            var copy = new CopyOptions { Workers = 1, TargetIsZero = !resumes, FlushEveryBytes = 16384 };
            await new ImageFilling(source, target, []).RunAsync(copy, compresses: false, isNew: true, resumes, null, default);
        }

        await directory.RenameFileAsync(Unfinished, Target);
        await directory.SynchroniseAsync();
    }

    private static ValueTask<BlockNode> OpenAsync(NamedStorages storages, bool writable = false) => new ImageOpener(storages.Context()).OpenAsync(
        new OpenRequest { Options = NodeOptions.ForFile($"{Folder}/{Unfinished}"), Format = "parallels", Writable = writable });

    private static async Task<BlockException?> ProblemAsync(NamedStorages storages)
    {
        try
        {
            await using var node = await OpenAsync(storages);
            return null;
        }
        catch (BlockException e) when (e.Kind is BlockErrorKind.WrongFormat or BlockErrorKind.CorruptImage)
        {
            return e;
        }
    }
}
