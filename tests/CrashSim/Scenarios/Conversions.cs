using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Formats.Qcow2;
using Platter.Operations.Copy;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>A disk is copied into a new image. At any cut the image either does not open, and the copy can be resumed to its end (or begun again, if there is no image yet), or it is
/// the whole copy; once the conversion has ended it is.</summary>
/// <param name="name">What is special.</param>
/// <param name="options">As for <c>convert -o</c>.</param>
/// <param name="compresses"><c>-c</c>.</param>
/// <param name="resumed">The conversion that is recorded is itself the rest of one that was interrupted.</param>
internal sealed class Conversions(string name, string options, bool compresses = false, bool resumed = false) : CrashScenario
{
    private const string Source = "source.raw", Created = "created", Converted = "converted";
    private const int Size = (70 * 1024) + 512, Cluster = 1024;

    public override string Name => $"convert-{name}";

    public override string Operation => resumed ? "convert --resume" : compresses ? "convert -c to qcow2" : "convert to qcow2";

    public override int BoundedSeeds => resumed ? 5 : 2;

    public override int SampledStates => 120;

    public override CrashImage Prepare(Random random)
    {
        var content = new byte[Size];
        for (var at = 0; at < Size;)
        {
            var length = Math.Min(random.Next(1, 12) * 512, Size - at);
            var kind = random.Next(4);
            if (kind > 0)
            {
                TestContent.Make(6, at, length).CopyTo(content, at);
            }

            // Some of it can be compressed.
            for (var sector = at; kind > 1 && sector < at + length; sector += 512)
            {
                content.AsSpan(sector + 16, 400).Clear();
            }

            at += length;
        }

        var files = new Dictionary<string, byte[]> { [CrashImage.Top] = [], [Source] = content };
        if (options.Contains("data_file=", StringComparison.Ordinal))
        {
            files[CrashImage.Data] = [];
        }

        if (resumed)
        {
            Task.Run(() => StartAsync(files, random)).GetAwaiter().GetResult();
        }

        return new() { Files = files, Content = content };
    }

    public override async Task RunAsync(CrashRun run)
    {
        if (!resumed)
        {
            await CreateAsync(file => run.Disk.Find(file)!.Open(writable: true));
            run.Mark(Created);
        }

        await FillAsync(run.Storages, resumes: resumed);
        run.Mark(Converted);
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        var (run, state) = (verifier.Run, verifier.State);
        var problem = await ProblemAsync(verifier.Storages);
        if (problem?.Kind == BlockErrorKind.Unsupported)
        {
            CrashViolation.ThrowIf(run.Happened(Converted, state) ? $"the conversion has ended, and: {problem.Message}" : null);
            await CheckUnfinishedAsync(verifier.Storages);
            await FillAsync(verifier.Storages, resumes: true);
        }
        else if (problem is not null)
        {
            CrashViolation.ThrowIf(resumed || run.Happened(Created, state) ? $"the image was there, and: {problem.Message}" : null);
            await CreateAsync(file => state.Open(file, writable: true)!);
            await FillAsync(verifier.Storages, resumes: false);
        }

        await verifier.VerifyAsync();
    }

    // What a cut leaves of a copy, once the image is there.
    private async Task StartAsync(Dictionary<string, byte[]> files, Random random)
    {
        var disk = new SimulatedDisk();
        foreach (var (file, bytes) in files)
        {
            disk.AddFile(file, bytes);
        }

        await CreateAsync(file => disk.Find(file)!.Open(writable: true));
        var created = disk.Now;
        await FillAsync(new((file, writable) => disk.Find(file)?.Open(writable)), resumes: false);
        var trace = new CrashTrace(disk);
        while (true)
        {
            var cut = trace.CutAt(random.NextInt64(created, trace.End));
            var state = cut.Build(CutPlans.Sample(cut, random));
            if ((await ProblemAsync(new(state.Open)))?.Kind == BlockErrorKind.Unsupported)
            {
                foreach (var file in state.Names)
                {
                    files[file] = state.Bytes(file);
                }

                return;
            }
        }
    }

    private async Task CreateAsync(Func<string, Core.Storages.Storage> open)
    {
        var format = new Qcow2Format();
        await using var storage = open(CrashImage.Top);
        await format.CreateAsync(
            storage, Size, format.CreateOptions.Normalize(NodeOptions.ParseKeyValues($"cluster_size={Cluster},{options}")),
            new CreateContext { OpenDataFileAsync = (file, _) => new(open(file)), Unfinished = true });
    }

    private async Task FillAsync(NamedStorages storages, bool resumes)
    {
        await using var source = await new ImageOpener(storages.Context()).OpenAsync(new OpenRequest { Options = NodeOptions.ForFile(Source), Format = "raw" });
        await using var target = await OpenAsync(storages, writable: true, allowUnfinished: true);
        await new ImageFilling(source, target, []).RunAsync(
            new CopyOptions { Workers = 1, TargetIsZero = !resumes }, compresses, isNew: true, resumes, null, default);
    }

    private static async Task<BlockException?> ProblemAsync(NamedStorages storages)
    {
        try
        {
            await using var node = await OpenAsync(storages);
            return null;
        }
        catch (BlockException e) when (e.Kind is BlockErrorKind.WrongFormat or BlockErrorKind.CorruptImage or BlockErrorKind.Unsupported)
        {
            return e;
        }
    }

    private static async Task CheckUnfinishedAsync(NamedStorages storages)
    {
        await using var node = await OpenAsync(storages, allowUnfinished: true);

        // Refcounts of a dirty image may be wrong; opening it for writing repairs it.
        if ((await node.GetInfoAsync()).Dirty == true)
        {
            return;
        }

        var report = await node.CheckAsync(static _ => { });
        CrashViolation.ThrowIf(report is { Corruptions: 0, Errors: 0 } ? null : $"the unfinished image checks with {report}");
    }

    private static ValueTask<BlockNode> OpenAsync(NamedStorages storages, bool writable = false, bool allowUnfinished = false)
    {
        var known = storages.Context();
        var context = new OpenContext { Formats = known.Formats, Storages = storages, Gate = known.Gate, Codecs = known.Codecs, AllowUnfinished = allowUnfinished };
        return new ImageOpener(context).OpenAsync(new OpenRequest { Options = NodeOptions.ForFile(CrashImage.Top), Format = "qcow2", Writable = writable });
    }
}
