using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>What one case feeds to a target: files in memory, the first of which is the one that is opened.</summary>
public sealed class FuzzInput
{
    /// <summary>An input of one file.</summary>
    public FuzzInput(string main, SparseBytes bytes)
    {
        Main = main;
        Files[main] = bytes;
    }

    /// <summary>An input of several files.</summary>
    public FuzzInput(string main, IEnumerable<KeyValuePair<string, SparseBytes>> files)
    {
        Main = main;
        foreach (var (name, bytes) in files)
        {
            Files[name] = bytes;
        }
    }

    /// <summary>Name of the file that is opened; of a bundle, the one that is mutated most.</summary>
    public string Main { get; }

    /// <summary>What is opened: <see cref="Main"/>, or the directory it lies in.</summary>
    public string OpenName { get => field ?? Main; init; }

    /// <summary>PBKDF2 iterations that opening may cost.</summary>
    public long MaxKeyIterations { get; init; } = 10_000;

    /// <summary>Whether the main file claims to be an encrypted qcow2 image, so that a password is worth giving.</summary>
    public bool IsEncrypted => Files.TryGetValue(OpenName, out var bytes) && bytes.U32Be(0) == 0x514649fb && bytes.U32Be(32) != 0;

    /// <summary>Content by name.</summary>
    public Dictionary<string, SparseBytes> Files { get; } = new(StringComparer.Ordinal);

    /// <summary>The file that is opened.</summary>
    public SparseBytes MainBytes
    {
        get => Files[Main];
        set => Files[Main] = value;
    }

    /// <summary>An independent copy, to be mutated.</summary>
    public FuzzInput Clone() => new(Main, Files.Select(f => KeyValuePair.Create(f.Key, f.Value.Clone()))) { OpenName = OpenName, MaxKeyIterations = MaxKeyIterations };
}
