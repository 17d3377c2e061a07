using System.Text;
using Xunit;

namespace Platter.TestKit;

/// <summary>A Linux kernel to boot, with its modules: Debian's for cloud machines, downloaded once into artifacts/vm.</summary>
public sealed class GuestKernel
{
    private const string MetaPackage = "linux-image-cloud-amd64";

    private static readonly Lazy<GuestKernel?> s_instance = new(Prepare);

    private readonly string _modules;

    private GuestKernel(string image, string modules)
    {
        Image = image;
        _modules = modules;
    }

    /// <summary>Path of the kernel.</summary>
    public string Image { get; }

    /// <summary>The kernel, or a visible skip where it cannot be had.</summary>
    public static GuestKernel RequireOrSkip()
    {
        Assert.SkipUnless(System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture == System.Runtime.InteropServices.Architecture.X64, "the guest's kernel is for x86-64");
        ToolRunner.RequireOrSkip("qemu-system-x86_64", "busybox", "cpio", "dpkg-deb");
        Assert.SkipWhen(s_instance.Value is null, $"the package {MetaPackage} cannot be downloaded");
        return s_instance.Value!;
    }

    /// <summary>A module with those that it depends on, in the order in which they are loaded. Modules that are built in are left out.</summary>
    public IReadOnlyList<string> Modules(params string[] names)
    {
        var result = new List<string>();
        foreach (var name in names)
        {
            Add(name, result);
        }

        return result;
    }

    private void Add(string name, List<string> result)
    {
        var path = Directory.EnumerateFiles(_modules, "*.ko", SearchOption.AllDirectories)
            .FirstOrDefault(file => Path.GetFileNameWithoutExtension(file).Replace('-', '_') == name.Replace('-', '_'));
        if (path is null || result.Contains(path))
        {
            return;
        }

        foreach (var needed in DependenciesOf(path))
        {
            Add(needed, result);
        }

        result.Add(path);
    }

    // A module's own section says it, as text that ends with a NUL.
    private static string[] DependenciesOf(string module)
    {
        var bytes = File.ReadAllBytes(module).AsSpan();
        var at = bytes.IndexOf("\0depends="u8);
        if (at < 0)
        {
            return [];
        }

        var rest = bytes[(at + "\0depends=".Length)..];
        return Encoding.ASCII.GetString(rest[..rest.IndexOf((byte)0)]).Split(',', StringSplitOptions.RemoveEmptyEntries);
    }

    private static GuestKernel? Prepare()
    {
        var folder = Path.Combine(DemoSample.RepositoryRoot, "artifacts", "vm");
        if (Find(folder) is { } there)
        {
            return there;
        }

        Directory.CreateDirectory(folder);
        var depends = ToolRunner.Run("apt-cache", "depends", MetaPackage);
        var package = depends.Text.Split('\n').Select(line => line.Trim()).FirstOrDefault(line => line.StartsWith("Depends: linux-image-", StringComparison.Ordinal))?["Depends: ".Length..];
        if (package is null || ToolRunner.Run(new ToolCommand("apt-get", "download", "-q", package) { WorkingDirectory = folder }).ExitCode != 0)
        {
            return null;
        }

        var archive = Directory.EnumerateFiles(folder, "*.deb").First();
        var root = Path.Combine(folder, "unpacking");
        ToolRunner.RunChecked("dpkg-deb", "-x", archive, root);
        File.Delete(archive);
        Directory.Move(root, Path.Combine(folder, "kernel"));
        return Find(folder);
    }

    private static GuestKernel? Find(string folder)
    {
        var root = Path.Combine(folder, "kernel");
        if (!Directory.Exists(root))
        {
            return null;
        }

        return new(Directory.EnumerateFiles(Path.Combine(root, "boot"), "vmlinuz-*").First(), Path.Combine(root, "lib", "modules"));
    }
}
