using Xunit;

namespace Platter.TestKit;

/// <summary>The peers of Debian 13 (QEMU 10, libnbd 1.22, nbdkit 1.42), which speak NBD's extended headers: in a folder that <c>tests/peers/newer</c> makes.</summary>
public static class NewerPeers
{
    private static readonly string s_root = Path.Combine(DemoSample.RepositoryRoot, "artifacts", "debian13");

    /// <summary>The command line of one of them, by its own loader and libraries. Skips the test, visibly, where there are none.</summary>
    public static ToolCommand Command(string tool, params string[] arguments)
    {
        Assert.SkipUnless(File.Exists(Path.Combine(s_root, ".complete")), "there are no newer peers (tests/peers/newer artifacts/debian13 makes them, as root)");
        const string Libraries = "usr/lib/x86_64-linux-gnu";
        var loader = Path.Combine(s_root, "lib64", "ld-linux-x86-64.so.2");
        var program = ((string[])["usr/bin", "usr/sbin"]).Select(folder => Path.Combine(s_root, folder, tool)).First(File.Exists);
        return new ToolCommand(loader, ["--library-path", Path.Combine(s_root, Libraries), program, .. arguments]);
    }

    /// <summary>Runs one to its end and fails the test unless it exits with 0.</summary>
    public static ToolResult RunChecked(string tool, params string[] arguments) => ToolRunner.Run(Command(tool, arguments)).Expect();

    /// <summary>Serves an image with the newer qemu-nbd, to any number of clients.</summary>
    public static NbdServer QemuNbd(string image, string format, TempFolder folder, params string[] more) =>
        NbdServer.Start(Command("qemu-nbd", ["-t", "-e", "8", "-f", format, .. more, "-k", "{socket}", image]), folder);

    /// <summary>Runs the newer nbdkit with a plugin and its parameters.</summary>
    public static NbdServer Nbdkit(TempFolder folder, string plugin, params string[] parameters)
    {
        var file = Path.Combine(s_root, "usr/lib/x86_64-linux-gnu/nbdkit/plugins", $"nbdkit-{plugin}-plugin.so");
        return NbdServer.Start(Command("nbdkit", ["-f", "--exit-with-parent", "-U", "{socket}", file, .. parameters]), folder);
    }

    /// <summary>Runs a script of the newer nbdsh (Python) with a connected handle <c>h</c>, in the folder of the peers; needs root.</summary>
    /// <param name="server">An address that is seen from there: see <see cref="Folder"/>.</param>
    /// <param name="script">Statements; an assertion that fails fails the test.</param>
    /// <param name="before">Statements before the connection is made.</param>
    public static void Nbdsh(string server, string script, string before = "")
    {
        Command("nbdinfo");
        Assert.SkipUnless(Environment.UserName == "root", "chroot needs root");
        ToolRunner.Run("chroot", s_root, "python3", "-c", $"import nbd\nh = nbd.NBD()\n{before}\nh.connect_uri('{server}')\n{script}\n").Expect();
    }

    /// <summary>A folder that the newer peers see as /tmp.</summary>
    public static string Folder => Path.Combine(s_root, "tmp");
}
