using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>One run of a scenario: the disk that remembers, the guest that remembers, and random numbers.</summary>
internal sealed class CrashRun
{
    private readonly Dictionary<string, long> _marks = new(StringComparer.Ordinal);

    private readonly List<(CrashWorld World, long Begun, long Ended)> _worlds = [];
    private int _contents = 1000;

    private CrashRun(CrashImage image, SimulatedDisk disk, Random random)
    {
        Image = image;
        SmallestSize = image.Content.Length;
        Disk = disk;
        Random = random;
        Guest = new(disk, image.Content);
        Storages = new((name, writable) => disk.Find(name)?.Open(writable), disk.Directories.GetValueOrDefault) { GivenBackings = image.GivenBackings };
    }

    /// <summary>How it was before.</summary>
    public CrashImage Image { get; }

    /// <summary>Where the files are.</summary>
    public SimulatedDisk Disk { get; }

    /// <summary>What the guest wrote.</summary>
    public GuestHistory Guest { get; }

    /// <summary>Random numbers of the seed.</summary>
    public Random Random { get; }

    /// <summary>Opens files of <see cref="Disk"/>.</summary>
    public NamedStorages Storages { get; }

    /// <summary>The least that the disk ever had, in bytes.</summary>
    public long SmallestSize { get; set; }

    /// <summary>Bitmaps are cleared and added on the way: then they need not have what differs from the beginning.</summary>
    public bool ChangesBitmaps { get; set; }

    /// <summary>While the list of bitmaps is switched, the image may say that it has none that count.</summary>
    public bool MayLoseBitmaps { get; set; }

    /// <summary>Prepares a scenario and lets it happen.</summary>
    public static async Task<CrashRun> MakeAsync(CrashScenario scenario, int seed)
    {
        var random = new Random(seed);
        var image = scenario.Prepare(random);
        var disk = new SimulatedDisk { IsSlow = scenario.IsSlow };
        foreach (var files in image.Files.GroupBy(f => Path.GetDirectoryName(f.Key) ?? string.Empty))
        {
            if (files.Key.Length > 0)
            {
                disk.AddDirectory(files.Key, files.ToDictionary(f => Path.GetFileName(f.Key), f => f.Value.ToArray()));
                continue;
            }

            foreach (var (name, bytes) in files)
            {
                disk.AddFile(name, [.. bytes]);
            }
        }

        var run = new CrashRun(image, disk, random);
        await scenario.RunAsync(run);
        return run;
    }

    /// <summary>A number that no content has been made from yet.</summary>
    public int NextContent() => Interlocked.Increment(ref _contents);

    /// <summary>Opens the image as a guest has it.</summary>
    public async Task<CrashGuest> OpenAsync() => new(this, Image.Options.Length == 0
        ? await Storages.OpenAsync(CrashImage.Top, writable: true)
        : await new ImageOpener(Storages.Context()).OpenAsync(new OpenRequest
        {
            Options = NodeOptions.ParseKeyValues($"driver=qcow2,file.driver=file,file.filename={CrashImage.Top},{Image.Options}"),
            Writable = true,
        }));

    /// <summary>One step of an operation that turns one world into another: until it has ended, both are allowed.</summary>
    /// <param name="next">What is true afterwards. Nobody looks at it before the step has ended.</param>
    /// <param name="step">What is done.</param>
    public async Task StepAsync(CrashWorld next, Func<Task> step)
    {
        var begun = Disk.Tick();
        await step();
        _worlds.Add((next, begun, Disk.Tick()));
    }

    /// <summary>The worlds that a cut may have left.</summary>
    public IReadOnlyList<CrashWorld> WorldsAt(long time)
    {
        List<CrashWorld> result = [new("before", Image.Content, Image.Snapshots)];
        foreach (var (world, begun, ended) in _worlds.Where(w => w.Begun <= time))
        {
            if (ended <= time)
            {
                result.Clear();
            }

            result.Add(ended <= time ? world with { Mixes = null } : world);
        }

        return result;
    }

    /// <summary>Notes that something has happened, for <see cref="Happened"/>: "the snapshot was taken".</summary>
    public void Mark(string name) => _marks[name] = Disk.Tick();

    /// <summary>Whether something had happened when the power was cut.</summary>
    public bool Happened(string name, CrashState state) => _marks.TryGetValue(name, out var time) && time <= state.Time;
}
