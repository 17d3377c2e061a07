using System.Text.RegularExpressions;
using System.Xml.Linq;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Repository;

/// <summary>The borders between the rooms, read from the project files and sources.</summary>
public sealed partial class RoomTests
{
    private static readonly Dictionary<string, string[]> s_mayUse = new()
    {
        ["Core"] = [],
        ["Host"] = ["Core"],
        ["Formats"] = ["Core"],
        ["Nbd"] = ["Core"],
        ["Operations"] = ["Core"],
        ["Platter"] = ["Core", "Formats", "Host", "Nbd", "Operations"],
        ["Cli"] = ["Platter"],
        ["Daemon"] = ["Platter"],
    };

    private static readonly string[] s_formats = ["Raw", "Qcow2", "Parallels"];

    [Fact]
    public void Rooms_refer_to_the_rooms_they_may()
    {
        foreach (var project in Projects("src"))
        {
            var room = project.Split('/')[1];
            Assert.True(s_mayUse.ContainsKey(room), $"{project}: a new room; say in this test what it may use");
            var used = XDocument.Parse(RepositoryFile.Read(project)).Descendants("ProjectReference").Select(r => r.Attribute("Include")!.Value.Split('/', '\\')[^2]);
            Assert.True(used.Order().SequenceEqual(s_mayUse[room]), $"{project} refers to {string.Join(", ", used)}; it may use {string.Join(", ", s_mayUse[room])}");
        }
    }

    [Fact]
    public void Formats_do_not_know_each_other()
    {
        foreach (var format in s_formats)
        {
            foreach (var file in RepositoryFile.List([$"src/Formats/{format}"], ".cs"))
            {
                // A bundle's plain images are raw ones: the one exception.
                var others = s_formats.Where(other => other != format && !(other == "Raw" && file.StartsWith("src/Formats/Parallels/Bundle/", StringComparison.Ordinal)));
                var text = RepositoryFile.Read(file);
                Assert.All(others, other => Assert.False(text.Contains($"Platter.Formats.{other}", StringComparison.Ordinal), $"{file} uses {other}"));
            }
        }
    }

    [Fact]
    public void Unsafe_code_is_allowed_in_Host_alone()
    {
        foreach (var file in RepositoryFile.List(["", "src", "tests", "samples", "benchmarks"], ".csproj", ".props", ".targets"))
        {
            var allows = XDocument.Parse(RepositoryFile.Read(file)).Descendants("AllowUnsafeBlocks").Any(e => e.Value.Trim() != "false");
            Assert.True(allows == (file == "src/Host/Platter.Host.csproj"), $"{file}: AllowUnsafeBlocks");
        }
    }

    [Fact]
    public void Native_calls_are_made_in_Host_alone()
    {
        foreach (var file in RepositoryFile.List(["src"], ".cs").Where(file => !file.StartsWith("src/Host/", StringComparison.Ordinal)))
        {
            Assert.False(NativeCall().IsMatch(RepositoryFile.Read(file)), $"{file}: native calls and unsafe code live in src/Host");
        }
    }

    [Fact]
    public void Every_project_is_in_the_solution()
    {
        var solution = XDocument.Parse(RepositoryFile.Read("Platter.slnx")).Descendants("Project").Select(p => p.Attribute("Path")!.Value).ToHashSet();
        Assert.All(Projects("src").Concat(Projects("tests")), project => Assert.Contains(project, solution));
    }

    [Fact]
    public void Every_package_version_is_used()
    {
        var projects = string.Concat(RepositoryFile.List(["", "src", "tests", "samples", "benchmarks"], ".csproj", ".props").Where(f => f != "Directory.Packages.props").Select(RepositoryFile.Read));
        var versions = XDocument.Parse(RepositoryFile.Read("Directory.Packages.props")).Descendants("PackageVersion").Select(v => v.Attribute("Include")!.Value);
        Assert.All(versions, name => Assert.Contains($"PackageReference Include=\"{name}\"", projects, StringComparison.Ordinal));
    }

    private static IEnumerable<string> Projects(string folder) => RepositoryFile.List([folder], ".csproj");

    [GeneratedRegex(@"\[(DllImport|LibraryImport)\b|\bNativeLibrary\b|\bunsafe\b(?=\s*(\{|static|partial|void|struct|class|\())|\bdelegate\*")]
    private static partial Regex NativeCall();
}
