using System.Text;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Files as they are before an operation, and what is known of them.</summary>
internal sealed record CrashImage
{
    /// <summary>The name of the image that is opened.</summary>
    public const string Top = "disk.qcow2";

    /// <summary>The name of its external data file.</summary>
    public const string Data = "disk.data";

    /// <summary>The name of its backing file, which is raw.</summary>
    public const string Base = "base.raw";

    /// <summary>All files by name. Those in a directory ("disk.hdd/x") have names that can change.</summary>
    public required IReadOnlyDictionary<string, byte[]> Files { get; init; }

    /// <summary>What the guest reads.</summary>
    public required byte[] Content { get; init; }

    /// <summary>Internal snapshots: what a guest reads from each. They must stay as they are.</summary>
    public IReadOnlyDictionary<string, byte[]> Snapshots { get; init; } = new Dictionary<string, byte[]>();

    /// <summary>The backing disk.</summary>
    public ReferenceDisk? Below { get; init; }

    /// <summary>It is a Parallels image: it cannot name its backing file, whoever opens it does.</summary>
    public bool IsParallels { get; init; }

    /// <summary>Which raw files whoever opens an image puts below it.</summary>
    public IReadOnlyDictionary<string, string> GivenBackings => IsParallels && Below is not null ? new Dictionary<string, string> { [Top] = Base } : new Dictionary<string, string>();

    /// <summary>The data file alone is the disk as well.</summary>
    public bool HasRawDataFile { get; init; }

    /// <summary>Options that the guest's disk is opened with, besides its file.</summary>
    public string Options { get; init; } = string.Empty;

    /// <summary>The image and all it names.</summary>
    /// <param name="builder">What to build.</param>
    /// <param name="change">What is done to it then, without the guest noticing; null for nothing.</param>
    public static CrashImage From(Qcow2Builder builder, Action<Qcow2Image>? change = null)
    {
        var image = builder.Build();
        change?.Invoke(image);
        var files = new Dictionary<string, byte[]> { [Top] = image.Bytes.ToArray() };
        if (image.DataFile is { } data)
        {
            files[Data] = data.ToArray();
        }

        if (builder.Backing is { } below)
        {
            files[Base] = below.ToArray();
        }

        return new()
        {
            Files = files,
            Content = image.Model.ToArray(),
            Snapshots = image.Snapshots.ToDictionary(s => Encoding.UTF8.GetString(s.Snapshot.Name), s => s.Model.ToArray()),
            Below = builder.Backing,
            HasRawDataFile = builder.DataFileRaw,
        };
    }
}
