using System.Text.RegularExpressions;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Interop.Hostile.HostileFiles;

namespace Platter.Tests.Interop.Hostile;

/// <summary>What the program opens, seen from outside: the kernel's own word, by <c>strace</c>.</summary>
public sealed partial class OpenTraceTests
{
    [Fact]
    public void Info_opens_the_named_image_and_nothing_that_it_names()
    {
        using var folder = new TempFolder("trace");
        MakeChain(folder);
        Assert.Equal(["top.qcow2"], Trace(folder, "info", folder["top.qcow2"]));
        Assert.Equal(["data.qcow2"], Trace(folder, "info", "--output=json", folder["data.qcow2"]));
        Assert.Equal(["top.qcow2"], Trace(folder, "check", folder["top.qcow2"]));
    }

    [Fact]
    public void Untrusted_convert_opens_nothing_that_the_image_names()
    {
        using var folder = new TempFolder("trace");
        MakeChain(folder);
        Assert.Equal(["top.qcow2"], Trace(folder, "convert", "--untrusted", "-O", "raw", folder["top.qcow2"], folder["out.raw"]));
        Assert.Equal(["data.qcow2"], Trace(folder, "convert", "--untrusted", "-O", "raw", folder["data.qcow2"], folder["out.raw"]));
    }

    [Fact]
    public void Default_convert_opens_the_chain_and_the_target()
    {
        using var folder = new TempFolder("trace");
        MakeChain(folder);
        Assert.Equal(["base.raw", "out.raw.unfinished", "top.qcow2"], Trace(folder, "convert", "-O", "raw", folder["top.qcow2"], folder["out.raw"]));
        Assert.Equal(["data.qcow2", "data.raw", "out2.raw.unfinished"], Trace(folder, "convert", "-O", "raw", folder["data.qcow2"], folder["out2.raw"]));
    }

    [Fact]
    public void A_gate_that_refuses_refuses_before_anything_is_opened()
    {
        using var folder = new TempFolder("trace");
        folder.Write("base.raw", new byte[4096]);
        Overlay(folder, "a.qcow2", $"json:{{\"driver\":\"vvfat\",\"file\":{{\"driver\":\"file\",\"filename\":\"{folder["base.raw"]}\"}}}}");
        Assert.Equal(["a.qcow2"], Trace(folder, "convert", "-O", "raw", folder["a.qcow2"], folder["out.raw"]));
    }

    [Fact]
    public void A_bundle_is_read_inside_its_own_directory()
    {
        using var folder = new TempFolder("trace");
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddLayer().FillRandom(1, 0.5);
        builder.AddTop().FillRandom(2, 0.5);
        var path = builder.Build().EditDescriptor(root => root.Descendants("File").First().Value = "../secret.hds").SaveTo(folder.Path);
        folder.Write("secret.hds", new byte[4096]);
        Assert.DoesNotContain("secret.hds", Trace(folder, "info", path));
        Assert.DoesNotContain("secret.hds", Trace(folder, "convert", "-O", "raw", path, folder["out.raw"]));
        Assert.DoesNotContain("secret.hds", Trace(folder, "check", path));
    }

    [Fact]
    public void Names_in_json_open_what_they_name_and_nothing_when_untrusted()
    {
        using var folder = new TempFolder("trace");
        folder.Write("base.raw", new byte[1 << 20]);
        var name = $"json:{{\"driver\":\"raw\",\"file\":{{\"driver\":\"file\",\"filename\":\"{folder["base.raw"]}\"}}}}";
        Overlay(folder, "a.qcow2", name);
        Assert.Equal(["a.qcow2"], Trace(folder, "info", folder["a.qcow2"]));
        Assert.Equal(["a.qcow2", "base.raw"], Trace(folder, "map", folder["a.qcow2"]));
        Assert.Equal(["a.qcow2"], Trace(folder, "map", "--untrusted", folder["a.qcow2"]));
        Assert.Equal(["a.qcow2"], Trace(folder, "info", "--untrusted", "--backing-chain", folder["a.qcow2"]));
        Assert.Equal(["a.qcow2"], Trace(folder, "measure", "--untrusted", "-O", "raw", folder["a.qcow2"]));
        Assert.Equal(["a.qcow2"], Trace(folder, "compare", "--untrusted", folder["a.qcow2"], folder["a.qcow2"]));
        Assert.Equal(["a.qcow2"], Trace(folder, "dd", "--untrusted", $"if={folder["a.qcow2"]}", $"of={folder["out.raw"]}"));
    }

    [Fact]
    public void A_symbolic_link_that_an_image_names_opens_its_target_and_only_when_it_is_a_file()
    {
        using var folder = new TempFolder("trace");
        folder.Write("base.raw", new byte[1 << 20]);
        File.CreateSymbolicLink(folder["link"], folder["base.raw"]);
        File.CreateSymbolicLink(folder["kernel"], "/proc/self/environ");
        File.CreateSymbolicLink(folder["device"], "/dev/zero");
        Overlay(folder, "a.qcow2", "link");
        Assert.Equal(["a.qcow2", "link"], Trace(folder, "map", folder["a.qcow2"]));

        // A name that is looked at (O_PATH) is not opened.
        foreach (var name in (string[])["kernel", "device"])
        {
            Overlay(folder, "b.qcow2", name);
            Assert.Equal(["b.qcow2"], TraceOpened(folder, "map", folder["b.qcow2"]));
            WithDataFile(folder, "c.qcow2", name);
            Assert.Equal(["c.qcow2"], TraceOpened(folder, "map", folder["c.qcow2"]));
        }
    }

    [Fact]
    public void A_bundle_opens_its_descriptor_and_the_images_it_needs()
    {
        using var folder = new TempFolder("trace");
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddLayer().FillRandom(1, 0.5);
        builder.AddTop().FillRandom(2, 0.5);
        var bundle = builder.Build();
        var path = bundle.SaveTo(folder.Path);
        string[] images = [.. bundle.Layers.Select(layer => $"disk.hdd/{bundle.ImageName(layer)}")];
        string[] expected = [.. images.Append("disk.hdd/DiskDescriptor.xml").Order(StringComparer.Ordinal)];
        folder.Write("disk.hdd/stray.hds", new byte[4096]);
        File.CreateSymbolicLink(folder["disk.hdd/stray.link"], folder["disk.hdd/stray.hds"]);

        // Beside files only the directory itself is opened, to list it.
        foreach (var command in (string[][])[["info", path], ["map", path], ["check", path], ["convert", "--untrusted", "-O", "raw", path, folder["out.raw"]]])
        {
            var opened = TraceOpened(folder, command).Where(name => name is not ("disk.hdd" or "out.raw.unfinished"));

            // Only a check looks at the copy of the descriptor.
            Assert.Equal(command[0] == "check" ? [.. expected.Append("disk.hdd/DiskDescriptor.xml.Backup").Order(StringComparer.Ordinal)] : expected, opened);
        }
    }

    private static void MakeChain(TempFolder folder)
    {
        folder.Write("base.raw", new byte[1 << 20]);
        folder.Write("data.raw", new byte[1 << 20]);
        Overlay(folder, "top.qcow2", "base.raw");
        WithDataFile(folder, "data.qcow2", folder["data.raw"]);
    }

    // Names inside the folder that were opened, successfully or not, each once, in order of the alphabet.
    private static List<string> Trace(TempFolder folder, params string[] arguments) => Trace(folder, really: false, arguments);

    // What was really opened, under its real name: a name that was only looked at (O_PATH) does not count.
    private static List<string> TraceOpened(TempFolder folder, params string[] arguments) => Trace(folder, really: true, arguments);

    private static List<string> Trace(TempFolder folder, bool really, params string[] arguments)
    {
        ToolRunner.RequireOrSkip("strace");
        var log = Path.Combine(folder.CreateFolder("log"), $"{Guid.NewGuid():N}");
        var command = PlatterCli.Command(arguments);
        var run = ToolRunner.Run(new ToolCommand(
            "strace", ["-f", "-qq", "-y", "-s", "4096", "-e", "trace=open,openat,openat2,creat", "-o", log, command.Tool, .. command.Arguments]));
        Assert.SkipWhen(run.Error.Contains("PTRACE", StringComparison.Ordinal), "strace may not trace here");
        Assert.DoesNotContain("internal error", run.Error, StringComparison.Ordinal);
        var opened = new SortedSet<string>(StringComparer.Ordinal);
        foreach (var line in File.ReadLines(log).Where(line => !really || !line.Contains("O_PATH", StringComparison.Ordinal)))
        {
            foreach (Match match in (really ? Result() : Quoted()).Matches(line))
            {
                if (match.Groups[1].Value.StartsWith(folder.Path + "/", StringComparison.Ordinal))
                {
                    opened.Add(match.Groups[1].Value[(folder.Path.Length + 1)..]);
                }
                else if (match.Groups[1].Value.EndsWith("secret.hds", StringComparison.Ordinal))
                {
                    opened.Add("secret.hds");
                }
            }
        }

        return [.. opened];
    }

    [GeneratedRegex("\"([^\"]*)\"")]
    private static partial Regex Quoted();

    [GeneratedRegex("= [0-9]+<([^>]*)>")]
    private static partial Regex Result();
}
