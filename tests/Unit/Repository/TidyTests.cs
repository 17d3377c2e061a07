using System.Text.RegularExpressions;
using System.Xml.Linq;
using Platter.Cli;
using Platter.Cli.Commands;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Repository;

/// <summary>What keeps the repository readable: short files, no traces of the machine it was written on, documents that are found.</summary>
public sealed partial class TidyTests
{
    private const int MaxLines = 600;

    private static readonly string[] s_ours = ["", "src", "tests", "docs", "samples", "benchmarks"];

    [Fact]
    public void No_source_file_is_longer_than_600_lines() => Assert.All(
        RepositoryFile.List(s_ours, ".cs", ".sh", ".md"),
        file => Assert.True(RepositoryFile.Read(file).Split('\n').Length <= MaxLines, $"{file}: split it by topic"));

    [Fact]
    public void No_paths_of_somebodys_machine_are_in_sources_and_documents()
    {
        foreach (var file in RepositoryFile.List(["", "src", "docs", "samples", "benchmarks"], ".cs", ".md", ".csproj", ".props", ".sh", ".xml", ".json", ".slnx", ""))
        {
            var found = MachinePath().Match(RepositoryFile.Read(file));
            Assert.False(found.Success, $"{file}: {found.Value}");
        }
    }

    [Fact]
    public void Links_between_documents_lead_somewhere()
    {
        foreach (var file in Documents())
        {
            foreach (var link in MarkdownFile.Read(file).Links().Where(link => !link.Contains("://", StringComparison.Ordinal) && link[0] != '#'))
            {
                Assert.True(Exists(Target(file, link)), $"{file}: the link to {link} leads nowhere");
            }
        }
    }

    [Fact]
    public void Every_page_of_docs_can_be_reached_from_the_readme()
    {
        var reached = new HashSet<string>();
        var open = new Queue<string>(["README.md"]);
        while (open.TryDequeue(out var file))
        {
            if (reached.Add(file) && file.EndsWith(".md", StringComparison.Ordinal) && Exists(file))
            {
                MarkdownFile.Read(file).Links().Where(link => !link.Contains("://", StringComparison.Ordinal)).ToList().ForEach(link => open.Enqueue(Target(file, link)));
            }
        }

        Assert.All(
            RepositoryFile.List(["docs"], ".md"),
            page => Assert.True(reached.Contains(page) || reached.Contains(Path.GetDirectoryName(page)!), $"{page}: no document that README.md leads to has a link to it"));
    }

    [Fact]
    public void The_changelog_and_the_program_have_the_version_of_the_build()
    {
        var version = XDocument.Parse(RepositoryFile.Read("Directory.Build.props")).Descendants("Version").Single().Value;
        Assert.Contains(MarkdownFile.Read("CHANGELOG.md").Headings(), heading => heading.StartsWith(version, StringComparison.Ordinal));
        Assert.Equal(Persona.Version, version);
    }

    [Fact]
    public void Every_command_is_explained_in_the_documents()
    {
        var headings = MarkdownFile.Read("docs/commands.md").Headings();
        Assert.All(CommandTable.All(), command => Assert.Contains(command.Name, headings));
    }

    [Fact]
    public void Every_exit_code_of_a_command_is_in_the_documents()
    {
        var text = RepositoryFile.Read("docs/commands.md");
        foreach (var command in CommandTable.All())
        {
            var start = text.IndexOf($"\n## {command.Name}\n", StringComparison.Ordinal);
            var end = text.IndexOf("\n## ", start + 1, StringComparison.Ordinal);
            var section = text[start..(end < 0 ? text.Length : end)];
            var told = ExitCodes().Match(command.Details);
            Assert.All(Number().Matches(told.Value).Select(m => m.Value), code => Assert.Matches($@"\b{code}\b", section));
        }
    }

    [Fact]
    public void Every_test_that_the_table_of_peers_names_is_there()
    {
        var tests = string.Concat(RepositoryFile.List(["tests/Interop/Nbd"], ".cs").Select(RepositoryFile.Read));
        var named = TestName().Matches(RepositoryFile.Read("docs/interop.md")).Select(match => match.Groups[1].Value).ToList();
        Assert.NotEmpty(named);
        Assert.All(named, name => Assert.Contains($" {name}(", tests));
    }

    [Fact]
    public void Every_test_that_the_page_of_attacks_names_is_there()
    {
        var tests = string.Concat(RepositoryFile.List(["tests/Unit/Nbd", "tests/Interop/Nbd", "tests/Fuzz"], ".cs").Select(RepositoryFile.Read));
        var rows = RepositoryFile.Read("docs/security-nbd.md").Split('\n').Where(line => line.StartsWith("| ", StringComparison.Ordinal) && !line.StartsWith("| ---", StringComparison.Ordinal)).ToList();
        Assert.All(rows.SelectMany(row => TestName().Matches(row).Select(match => match.Groups[1].Value)), name => Assert.Contains($" {name}(", tests));

        // Nothing is claimed without a test; a table's first line has none.
        Assert.All(rows.Where(row => !row.EndsWith("| Tests |", StringComparison.Ordinal)), row => Assert.Matches(TestName(), row));
    }

    // A cell's test: words with underscores between them.
    [GeneratedRegex(@"`([A-Z][a-z0-9]*(?:_\w+)+)`")]
    private static partial Regex TestName();

    private static IEnumerable<string> Documents() => RepositoryFile.List(s_ours, ".md");

    private static string Target(string file, string link) =>
        Path.GetRelativePath("/", Path.GetFullPath(Path.Combine("/", Path.GetDirectoryName(file) ?? string.Empty, link.Split('#')[0]))).Replace('\\', '/');

    private static bool Exists(string path) => Path.Exists(Path.Combine(DemoSample.RepositoryRoot, path));

    // Temporary folders are asked for, homes and workplaces are nobody's business.
    [GeneratedRegex(@"(?<![\w.*])/(work|root|tmp|Users)/[\w.$-]*")]
    private static partial Regex MachinePath();

    [GeneratedRegex("Exit code:.*$", RegexOptions.Singleline)]
    private static partial Regex ExitCodes();

    [GeneratedRegex(@"\b\d+\b")]
    private static partial Regex Number();
}
