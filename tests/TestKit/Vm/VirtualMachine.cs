using System.Text;

namespace Platter.TestKit;

/// <summary>A small Linux machine that runs one script: Debian's kernel, busybox, and what a test puts into it.</summary>
/// <remarks>Emulated in software: programs run some ten times slower than here.</remarks>
public sealed class VirtualMachine
{
    private const string ExitMark = "GUEST-EXIT:";

    private readonly GuestKernel _kernel;
    private readonly TempFolder _folder;
    private readonly string _root;
    private readonly List<string> _modules = [];

    /// <summary>Prepares one, or skips the test visibly where that is not possible.</summary>
    /// <param name="folder">Where its files are made.</param>
    /// <param name="modules">Drivers that it loads.</param>
    public VirtualMachine(TempFolder folder, params string[] modules)
    {
        _kernel = GuestKernel.RequireOrSkip();
        _folder = folder;
        _root = folder["guest"];
        foreach (var directory in (string[])["bin", "proc", "sys", "dev", "tmp", "lib", "lib64", "mnt", "run"])
        {
            Directory.CreateDirectory(Path.Combine(_root, directory));
        }

        foreach (var module in _kernel.Modules(modules))
        {
            var name = Path.GetFileName(module);
            File.Copy(module, Path.Combine(_root, "lib", name));
            _modules.Add(name);
        }

        AddProgram(ToolRunner.RequireOrSkip("busybox"), "/bin/busybox");
    }

    /// <summary>Puts in a program with the libraries it is linked to.</summary>
    /// <param name="program">Path of the program here.</param>
    /// <param name="to">Its path there.</param>
    public void AddProgram(string program, string to)
    {
        AddFile(program, to);
        foreach (var line in ToolRunner.Run("ldd", program).Text.Split('\n'))
        {
            var words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            if (words.FirstOrDefault(word => word.StartsWith('/')) is { } library)
            {
                AddFile(library, library);
            }
        }
    }

    /// <summary>Puts in the platter program, as /bin/platter, with the runtime it needs.</summary>
    public void AddPlatter()
    {
        var program = PlatterCli.RequireOrSkip();
        if (!File.Exists(Path.Combine(Path.GetDirectoryName(program)!, "Platter.Cli.dll")))
        {
            AddProgram(program, "/bin/platter");
            return;
        }

        // The runtime's libraries are found beside it; what they need of the system is named by one of them, or opened by name.
        var runtime = Path.GetDirectoryName(typeof(object).Assembly.Location)!;
        var dotnet = Path.GetFullPath(Path.Combine(runtime, "..", "..", ".."));
        foreach (var part in (string[])[Path.GetRelativePath(dotnet, runtime), "host"])
        {
            AddDirectory(Path.Combine(dotnet, part), $"/usr/share/dotnet/{part}");
        }

        AddDirectory(Path.GetDirectoryName(program)!, "/opt/platter");
        foreach (var library in (string[])["libcoreclr.so", "libclrjit.so", "libSystem.Native.so", "libhostpolicy.so"])
        {
            AddProgram(Path.Combine(runtime, library), $"/usr/share/dotnet/{Path.GetRelativePath(dotnet, runtime)}/{library}");
        }

        AddProgram(program, "/opt/platter/platter");
        Write("/bin/platter", "#!/bin/sh\nexport DOTNET_ROOT=/usr/share/dotnet DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 DOTNET_TieredPGO=0 PLATTER_INVOKED_AS=${0##*/}\nexec /opt/platter/platter \"$@\"\n");
    }

    /// <summary>Puts in a file.</summary>
    public void AddFile(string file, string to)
    {
        var target = Path.Combine(_root, to.TrimStart('/'));
        if (!File.Exists(target))
        {
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(file, target);
        }
    }

    /// <summary>Boots, runs a script of busybox's shell as root, and powers off.</summary>
    /// <param name="script">Stops at the first command that fails.</param>
    /// <param name="timeout">For all of it.</param>
    /// <param name="arguments">Further arguments for qemu-system-x86_64.</param>
    /// <returns>What the script printed, and its exit code; -1 when the machine did not get that far.</returns>
    public (string Output, int ExitCode) Run(string script, TimeSpan timeout, params string[] arguments)
    {
        var loading = string.Concat(_modules.Select(module => $"insmod /lib/{module}\n"));
        Write("/test.sh", $"set -ex\n{script}\n");
        Write(
            "/init",
            "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\nmount -t proc none /proc\nmount -t sysfs none /sys\nmount -t devtmpfs none /dev\n"
            + $"mount -t tmpfs none /tmp\n{loading}ip link set lo up\nsh /test.sh 2>&1\necho {ExitMark}$?\npoweroff -f\n");
        var archive = _folder["guest.cpio"];
        ToolRunner.Run(new ToolCommand("sh", "-c", $"find . | cpio -o -H newc --quiet > '{archive}'") { WorkingDirectory = _root }).Expect();
        var run = ToolRunner.Run(new ToolCommand(
            "qemu-system-x86_64",
            [
                "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
                "-kernel", _kernel.Image, "-initrd", archive, "-append", "console=ttyS0 quiet panic=-1", .. arguments,
            ]) { Timeout = timeout });
        var lines = run.Text.ReplaceLineEndings("\n").Split('\n');
        var last = Array.FindLastIndex(lines, line => line.StartsWith(ExitMark, StringComparison.Ordinal));
        return last < 0
            ? ($"{run.Text}\n{run.Error}", -1)
            : (string.Join('\n', lines[..last]), int.Parse(lines[last][ExitMark.Length..], System.Globalization.CultureInfo.InvariantCulture));
    }

    private void AddDirectory(string directory, string to)
    {
        foreach (var file in Directory.EnumerateFiles(directory, "*", SearchOption.AllDirectories))
        {
            if (!file.EndsWith(".pdb", StringComparison.Ordinal) && !file.EndsWith(".xml", StringComparison.Ordinal))
            {
                AddFile(file, Path.Combine(to, Path.GetRelativePath(directory, file)));
            }
        }
    }

    private void Write(string path, string text)
    {
        var target = Path.Combine(_root, path.TrimStart('/'));
        File.WriteAllText(target, text, new UTF8Encoding(false));
        ToolRunner.RunChecked("chmod", "755", target);
    }
}
