using System.IO.Compression;
using System.Security.Cryptography;
using System.Xml.Linq;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Aot;

/// <summary>The package as a user gets it: everything in one file, and the README's quick start works with nothing else.</summary>
public sealed class PackageTests(PackageTests.Packed packed) : IClassFixture<PackageTests.Packed>
{
    private static readonly string[] s_assemblies =
        ["Platter", "Platter.Core", "Platter.Formats", "Platter.Host", "Platter.Nbd", "Platter.Operations"];

    [Fact]
    public void All_rooms_are_in_it_with_their_documentation()
    {
        using var package = ZipFile.OpenRead(packed.File(".nupkg"));
        var names = package.Entries.Select(entry => entry.FullName).ToList();
        Assert.Equal(
            s_assemblies.SelectMany(name => new[] { $"lib/net10.0/{name}.dll", $"lib/net10.0/{name}.xml" }).Order(StringComparer.Ordinal),
            names.Where(name => name.StartsWith("lib/", StringComparison.Ordinal)).Order(StringComparer.Ordinal));
        Assert.Contains("README.md", names);
        Assert.Contains("LICENSE", names);
    }

    [Fact]
    public void Symbols_of_all_rooms_are_in_the_symbol_package()
    {
        using var package = ZipFile.OpenRead(packed.File(".snupkg"));
        Assert.Equal(
            s_assemblies.Select(name => $"lib/net10.0/{name}.pdb").Order(StringComparer.Ordinal),
            package.Entries.Select(entry => entry.FullName).Where(name => name.EndsWith(".pdb", StringComparison.Ordinal)).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void It_depends_on_nothing_and_says_what_it_is()
    {
        using var package = ZipFile.OpenRead(packed.File(".nupkg"));
        using var stream = package.GetEntry("Platter.nuspec")!.Open();
        var metadata = XDocument.Load(stream).Root!.Elements().Single().Elements().ToDictionary(e => e.Name.LocalName);
        Assert.DoesNotContain(metadata["dependencies"].Descendants(), e => e.Name.LocalName == "dependency");
        Assert.Equal("MIT", metadata["license"].Value);
        Assert.Equal("README.md", metadata["readme"].Value);
        Assert.Contains("qcow2", metadata["tags"].Value.Split(' '));
        Assert.NotEmpty(metadata["description"].Value);
    }

    [Fact]
    public void The_quick_start_of_the_readme_builds_and_runs_on_the_package_alone()
    {
        using var folder = new TempFolder("consumer");
        folder.Write("nuget.config", $"""
            <configuration><packageSources><clear /><add key="packed" value="{packed.Folder.Path}" /></packageSources></configuration>
            """);
        folder.Write("Consumer.csproj", $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <Nullable>enable</Nullable>
                <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
                <RestorePackagesPath>packages</RestorePackagesPath>
              </PropertyGroup>
              <ItemGroup><PackageReference Include="Platter" Version="{packed.Version}" /></ItemGroup>
            </Project>
            """);
        folder.Write("Program.cs", Assert.Single(MarkdownFile.Read("README.md").CodeBlocks("csharp")));
        var run = Packed.Dotnet(folder.Path, "run", "-c", "Release", "--", DemoSample.Machine, folder["clean.raw"]);
        Assert.StartsWith($"parallels-bundle: {DemoSample.SizeBytes} bytes, 2 snapshots\n", run.Text, StringComparison.Ordinal);
        Assert.Equal(DemoSample.Sha256["Clean install"], Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(folder["clean.raw"]))));
    }

    /// <summary>The package, made once.</summary>
    public sealed class Packed : IDisposable
    {
        /// <summary>Packs.</summary>
        public Packed() => Dotnet(DemoSample.RepositoryRoot, "pack", "src/Platter", "-c", "Release", "-o", Folder.Path, "--nologo", "-v", "quiet");

        /// <summary>Where it is.</summary>
        public TempFolder Folder { get; } = new("package");

        /// <summary>Its version.</summary>
        public string Version => Path.GetFileNameWithoutExtension(File(".nupkg"))["Platter.".Length..];

        /// <summary>The one file with this extension.</summary>
        public string File(string extension) => Assert.Single(Directory.GetFiles(Folder.Path, "*" + extension));

        /// <inheritdoc/>
        public void Dispose() => Folder.Dispose();

        internal static ToolResult Dotnet(string directory, params string[] arguments) => ToolRunner.Run(new ToolCommand("dotnet", arguments)
        {
            WorkingDirectory = directory,
            Timeout = TimeSpan.FromMinutes(5),
            Environment = new Dictionary<string, string?> { ["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1", ["DOTNET_NOLOGO"] = "1" },
        }).Expect();
    }
}
