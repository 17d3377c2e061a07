using Xunit;

namespace Platter.TestKit;

/// <summary>Finds the sample in the repository and its known answers.</summary>
public static class DemoSample
{
    /// <summary>Root of the repository: the folder above the test's that holds the solution.</summary>
    public static string RepositoryRoot
    {
        get
        {
            for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            {
                if (File.Exists(Path.Combine(folder.FullName, "Platter.slnx")))
                {
                    return folder.FullName;
                }
            }

            throw new InvalidOperationException($"no repository above {AppContext.BaseDirectory}");
        }
    }

    /// <summary>Path of <c>samples/demo.pvm</c>.</summary>
    public static string Machine => Path.Combine(RepositoryRoot, "samples", "demo.pvm");

    /// <summary>Path of its disk, <c>harddisk.hdd</c>.</summary>
    public static string Disk => Path.Combine(Machine, "harddisk.hdd");

    /// <summary>Size of the disk in bytes.</summary>
    public const long SizeBytes = 16 << 20;

    /// <summary>SHA-256 of the raw disk (lower-case hexadecimal) by state: "Clean install", "After first update" and "current".</summary>
    public static IReadOnlyDictionary<string, string> Sha256
    {
        get
        {
            var lines = File.ReadAllLines(Path.Combine(RepositoryRoot, "samples", "demo.sha256"));
            var answers = lines.Where(l => l.Length > 66).ToDictionary(l => l[66..], l => l[..64]);
            Assert.Equal(3, answers.Count);
            return answers;
        }
    }
}
