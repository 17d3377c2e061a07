using System.Text;

namespace Platter.TestKit;

/// <summary>The repository's own files, by paths relative to its root with '/' between parts.</summary>
public static class RepositoryFile
{
    private static readonly string[] s_notOurs = ["artifacts", "dist", "bin", "obj", ".git", "TestResults", "BenchmarkDotNet.Artifacts", ".vs"];

    /// <summary>Text of a file.</summary>
    public static string Read(string path) => File.ReadAllText(Path.Combine(DemoSample.RepositoryRoot, path), Encoding.UTF8).ReplaceLineEndings("\n");

    /// <summary>Every file under some folders (the root's own files for ""), in order, that is source and not made from it.</summary>
    /// <param name="folders">"" for the root itself, without its folders.</param>
    /// <param name="extensions">With the dot; none for all files.</param>
    public static IEnumerable<string> List(string[] folders, params string[] extensions) =>
        folders.SelectMany(folder => folder.Length == 0 ? Directory.EnumerateFiles(DemoSample.RepositoryRoot) : Walk(Path.Combine(DemoSample.RepositoryRoot, folder)))
            .Where(path => extensions.Length == 0 || extensions.Contains(Path.GetExtension(path)))
            .Select(path => Path.GetRelativePath(DemoSample.RepositoryRoot, path).Replace('\\', '/'))
            .Order(StringComparer.Ordinal);

    private static IEnumerable<string> Walk(string folder) => !Directory.Exists(folder)
        ? []
        : Directory.EnumerateFiles(folder).Concat(
            Directory.EnumerateDirectories(folder).Where(inner => !s_notOurs.Contains(Path.GetFileName(inner))).SelectMany(Walk));
}
