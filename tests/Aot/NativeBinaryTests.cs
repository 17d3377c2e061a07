using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Aot;

/// <summary>The binary that <c>./publish</c> makes stands on its own. That it does what the JIT build does is for the interop tests, which
/// <c>./test --slow</c> runs against it.</summary>
public sealed class NativeBinaryTests
{
    private const long MaxBytes = 16 << 20;

    [Fact]
    public void It_is_one_file_of_moderate_size()
    {
        var file = new FileInfo(RequireOrSkip());
        Assert.InRange(file.Length, 1 << 20, MaxBytes);
        Assert.Equal("\u007fELF"u8, File.ReadAllBytes(file.FullName).AsSpan(0, 4));
    }

    [Fact]
    public void It_needs_the_C_library_and_nothing_of_dotnet()
    {
        var needed = ToolRunner.RunChecked("ldd", RequireOrSkip()).Lines.Select(line => line.Split(' ', '(')[0]).Select(Path.GetFileName);
        Assert.All(needed, name => Assert.Matches(@"^(linux-vdso\.so\.1|ld-linux-[\w-]+\.so\.\d|lib(c|m|dl|rt|pthread)\.so\.\d)$", name));
    }

    [Fact]
    public void It_reads_the_sample_without_any_environment()
    {
        using var folder = new TempFolder("native");
        var bare = new ToolCommand("env", "-i", RequireOrSkip(), "convert", "-O", "raw", "-l", "Clean install", DemoSample.Machine, folder["clean.raw"]);
        ToolRunner.Run(bare).Expect();
        Assert.Equal(DemoSample.Sha256["Clean install"], Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(folder["clean.raw"]))));
    }

    [Fact]
    public void It_takes_the_name_of_a_link()
    {
        using var folder = new TempFolder("native");
        File.CreateSymbolicLink(folder["qemu-img"], RequireOrSkip());
        Assert.StartsWith("qemu-img version ", ToolRunner.RunChecked(folder["qemu-img"], "--version").Text, StringComparison.Ordinal);
        Assert.StartsWith("qemu-img: Could not open 'gone'", ToolRunner.Run(folder["qemu-img"], "info", "gone").Expect(1).Error, StringComparison.Ordinal);
    }

    private static string RequireOrSkip()
    {
        var path = Path.Combine(DemoSample.RepositoryRoot, "dist", "platter");
        Assert.SkipUnless(File.Exists(path), "there is no dist/platter (./publish makes it)");
        return path;
    }
}
