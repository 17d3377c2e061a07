using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Parallels.Bundle;
using Platter.Operations.Copy;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>A disk is copied into a new bundle. At any cut there is no disk, and the same conversion can be begun again or, if the images were all made, resumed to its end; or there is the whole copy, closed as
/// it should be. Once the conversion has ended there is.</summary>
/// <param name="name">What is special.</param>
/// <param name="replaces">The directory has what an older copy left, whose images are those of another size.</param>
internal sealed class BundleConversions(string name, bool replaces = false) : CrashScenario
{
    private const string Disk = "vm.hdd", Source = "source.raw", Converted = "converted";
    private const int Size = 100 * 512;

    private static readonly ParallelsBundleFormat s_format = new();

    public override string Name => $"convert-bundle-{name}";

    public override string Operation => "bundles: convert, convert --resume";

    public override int BoundedSeeds => 3;

    public override int SampledStates => 120;

    public override CrashImage Prepare(Random random)
    {
        var content = new byte[Size];
        for (var at = 0; at < Size; at += 8192)
        {
            if (random.Next(4) > 0)
            {
                TestContent.Make(6, at, Math.Min(8192, Size - at)).CopyTo(content, at);
            }
        }

        var files = new Dictionary<string, byte[]> { [Source] = content };
        if (replaces)
        {
            Task.Run(() => LeaveAsync(files, random)).GetAwaiter().GetResult();
        }
        else
        {
            files[$"{Disk}/x"] = [];
        }

        return new() { Files = files, Content = content };
    }

    public override async Task RunAsync(CrashRun run)
    {
        var directory = run.Disk.Directories[Disk];
        if (!replaces)
        {
            await directory.RemoveFileAsync("x");
            await directory.SynchroniseAsync();
        }

        await CreateAsync(directory, Size);
        await FillAsync(run.Storages, resumes: false);
        run.Mark(Converted);
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        if (await ProblemAsync(verifier.Storages) is { } problem)
        {
            CrashViolation.ThrowIf(verifier.Run.Happened(Converted, verifier.State) ? $"the conversion has ended, and: {problem.Message}" : null);
            var directory = verifier.State.OpenDirectory(Disk)!;
            CrashViolation.ThrowIf(directory.FileExists("DiskDescriptor.xml") ? $"there is a descriptor, and: {problem.Message}" : null);
            await directory.RemoveFileAsync("x");
            var resumes = s_format.CanResume(directory);
            if (!resumes)
            {
                await CreateAsync(directory, Size);
            }

            await FillAsync(verifier.Storages, resumes);
        }

        await new BundleVerifier(verifier, Disk, Disk).VerifyAsync();
    }

    // What an older copy, of another disk, left at some moment.
    private static async Task LeaveAsync(Dictionary<string, byte[]> files, Random random)
    {
        while (true)
        {
            var disk = new SimulatedDisk();
            var directory = disk.AddDirectory(Disk, new Dictionary<string, byte[]>());
            await CreateAsync(directory, Size * 2);
            await using (var node = await OpenAsync(new((file, writable) => disk.Find(file)?.Open(writable), disk.Directories.GetValueOrDefault)))
            {
                await node.WriteAsync(default, TestContent.Make(9, 0, Size));
            }

            var trace = new CrashTrace(disk);
            var cut = trace.CutAt(random.NextInt64(1, trace.End));
            var left = cut.Build(CutPlans.Sample(cut, random)).OpenDirectory(Disk)!;
            foreach (var file in left.ListFiles())
            {
                await using var storage = await left.OpenFileAsync(file);
                var bytes = new byte[storage.Length];
                await storage.ReadAsync(default, bytes);
                files[$"{Disk}/{file}"] = bytes;
            }

            if (left.ListFiles().Count > 0)
            {
                return;
            }
        }
    }

    private static ValueTask CreateAsync(StorageDirectory directory, long size) => s_format.CreateAsync(
        directory, size, new NodeOptions { ["cluster_size"] = "4096", ["split_size"] = "32768" }, new CreateContext { Unfinished = true });

    private static async Task FillAsync(NamedStorages storages, bool resumes)
    {
        await using var source = await new ImageOpener(storages.Context()).OpenAsync(new OpenRequest { Options = NodeOptions.ForFile(Source), Format = "raw" });
        await using var target = await OpenAsync(storages);
        await new ImageFilling(source, target, []).RunAsync(new CopyOptions { Workers = 1, TargetIsZero = !resumes }, compresses: false, isNew: true, resumes, null, default);
    }

    private static ValueTask<BlockNode> OpenAsync(NamedStorages storages)
    {
        var known = storages.Context();
        var context = new OpenContext { Formats = known.Formats, Storages = storages, Gate = known.Gate, Codecs = known.Codecs, AllowUnfinished = true };
        return new ImageOpener(context).OpenAsync(new OpenRequest { Options = NodeOptions.ForFile(Disk), Writable = true });
    }

    private static async Task<BlockException?> ProblemAsync(NamedStorages storages)
    {
        try
        {
            await using var node = await storages.OpenAsync(Disk);
            return null;
        }
        catch (BlockException e)
        {
            return e;
        }
    }
}
