using System.Diagnostics;
using System.Text.RegularExpressions;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>io</c> under the name <c>qemu-io</c> answers as qemu-io does, times aside, and leaves the same disk.</summary>
public sealed partial class IoTests
{
    /// <summary>Options, commands, the image.</summary>
    public static TheoryData<string, string[], string> Sessions() => new()
    {
        { "", ["write 0 64k", "read -P 0xcd 0 64k", "w 1M 1k", "r 1M 1k", "write 1 3", "read 1 3", "write 10M 0", "read 10M 0", "read 0 512 -q"], "a.qcow2" },
        { "", ["write -P 0xab 64k 4k", "read -P 0xab 64k 4k", "read -P 0xac 64k 4k", "length", "read -v 65530 40", "read -C 0 128k", "read -q -P 1 0 4k"], "a.qcow2" },
        { "", ["write -P 0200 0 512", "read -P 128 -q 0 512", "read -v -P 0x80 510 3", "read -qv 0 5", "write -q -C 0 512", "read -- 0 1"], "a.qcow2" },
        {
            "",
            [
                "read -s 0 -l 512 -P 0xcd 64k 1k", "read -s 0 -P 0xab 64k 1k", "read -s 1000 -l 100 -P 1 64k 1k", "read 9M 2M", "write 10M 512", "read -P 256 0 512",
                "read -P x 0 512", "read x 1", "read 0 x", "read 0 9G", "read 9E 1", "read -l x -P 1 0 1", "read 0x7fffffffffffffff 1", "read 1.5k 1", "read 010 1",
            ],
            "a.qcow2"
        },
        {
            "",
            [
                "write -u 0 512", "write -n 0 512", "write -z -P 1 0 512", "write -bz 0 512", "write -f -b 0 512", "write -c 2M 100", "write -c 100 512",
                "write -z 0 3G", "write -z 0 512", "write -z -u 0 64k", "write -z -n 0 512", "write -z -n 0 64k", "write -f 0 512", "write -zf 0 1M",
                "write -z -n 100 512", "write 0 1k", "write -zn 100 200",
            ],
            "a.qcow2"
        },
        { "", ["write -s pat 100 512", "read -v 100 20", "write -s /nosuch 0 512", "write -s /dev/null 0 512", "write -s pat -P 3 0 512", "write -p 0 512"], "a.qcow2" },
        {
            "",
            [
                "writev 0 512 512 1k", "readv 0 1k 1k", "readv -v 0 16 16", "readv -P 0xcd 0 1k", "readv -P 1 0 1k", "readv", "readv 0", "readv x 1", "readv 0 x",
                "writev 3 100", "writev -f 0 512", "writev -P 7 0 512", "writev -q 0 512", "writev 20M 512", "writev -C 0 512 512", "readv 0 3G",
            ],
            "a.qcow2"
        },
        {
            "",
            [
                "aio_write 0 64k", "aio_flush", "aio_read 0 64k", "aio_flush", "aio_read -P 1 0 512", "aio_flush", "aio_read -q 0 512 512", "aio_flush",
                "aio_write -z 0 64k", "aio_flush", "aio_write -z 0 64k 64k", "aio_write -u 0 512", "aio_write -i 0 512", "aio_read -i 0 512", "aio_write 20M 512",
                "aio_flush", "aio_read 20M 512", "aio_flush", "aio_read -v 0 16", "aio_flush", "aio_write -P 1 0 100",
            ],
            "a.qcow2"
        },
        {
            "",
            [
                "flush", "f", "flush x", "discard 0 64k", "d 0 1M", "discard -q 0 64k", "discard -C 0 64k", "discard 0", "discard x 1", "discard 1 1", "discard 20M 1M",
                "discard 0 3G", "discard 9M 2M", "discard 0 0", "read 20M 0",
            ],
            "a.qcow2"
        },
        {
            "",
            [
                "map", "write 64k 64k", "write 256k 100k", "map", "alloc 0", "alloc 0 64k", "alloc 64k 512", "alloc 0 10M", "alloc 1 3", "alloc x", "alloc 0 x", "alloc",
                "alloc 0 -1", "alloc -1", "alloc 0 20M", "alloc 20M 512", "alloc 65k 1", "map x",
            ],
            "a.qcow2"
        },
        {
            "",
            [
                "length", "l", "truncate 20M", "length", "t 1000", "truncate 10M", "truncate x", "truncate", "truncate -m off 11M", "truncate -m x 1M", "truncate 1k",
                "length", "truncate 10M",
            ],
            "a.qcow2"
        },
        { "", ["info", "i", "info x"], "a.qcow2" },
        {
            "-f raw",
            [
                "info", "map", "write 0 64k", "map", "alloc 0 1M", "length", "truncate 1000", "length", "read 0 1000", "write -z 0 512", "discard 0 512",
                "write -zu 0 512", "write -c 0 512", "read 1000 24", "read 1000 25", "write 512 600",
            ],
            "r.raw"
        },
        { "-r", ["write 0 512", "read 0 512", "write -z 0 512", "discard 0 64k", "truncate 2M", "flush", "aio_write 0 512", "aio_flush", "reopen -w", "write 0 512"], "a.qcow2" },
        {
            "",
            [
                "reopen", "reopen -r", "write 0 512", "reopen -w", "write 0 512", "reopen -c none", "reopen -c bad", "reopen -o lazy-refcounts=on", "reopen -o foo=bar",
                "reopen -rw", "reopen -o read-only=on -r",
            ],
            "a.qcow2"
        },
        { "", ["close", "length", "open a.qcow2", "length", "open a.qcow2", "c", "o a.qcow2", "close", "close", "open", "open nosuch"], "a.qcow2" },
        { "", ["close", "open -o driver=qcow2 a.qcow2", "length", "close", "open -o driver=qcow2,file.filename=a.qcow2", "length", "close", "open -o driver=raw,file.filename=r.raw", "length"], "a.qcow2" },
        { "", ["close", "open -r a.qcow2", "write 0 512", "close", "open -n a.qcow2", "close", "open -s a.qcow2", "write 0 512", "map"], "a.qcow2" },
        { "", ["close", "open -C o.qcow2", "read 64k 1k", "map", "close", "open -d bad a.qcow2", "open -d unmap -U a.qcow2", "open -r -U a.qcow2", "length"], "a.qcow2" },
        { "", ["length", "quit", "length"], "a.qcow2" },
        {
            "",
            [
                "write -c -P 5 64k 64k", "read -P 5 64k 64k", "write -c 1M 128k", "write -c 512 512", "write -c 1M 512", "write -c 20M 64k", "write -c 1000448 64k",
                "write -c -z 2M 64k", "write -P 6 65k 512", "read -P 5 66k 62k", "alloc 0 2M", "map",
            ],
            "a.qcow2"
        },
        { "", ["sleep 1", "sleep x", "sleep", "nosuch", "help nosuch", "", "  ", "read \"0\" 1", "q", "read x"], "a.qcow2" },
        { "", ["alloc 0 1M", "map", "write -P 3 0 1k", "alloc 0 1M", "map", "read -P 7 64k 100k", "discard 64k 64k", "read -v 64k 16", "write -z 128k 1k", "map"], "o.qcow2" },
        { "-s", ["write 0 512", "map"], "o.qcow2" },
        { "-C", ["read 64k 512", "map"], "o.qcow2" },
        { "-C -r", ["length"], "o.qcow2" },
        { "-t writethrough", ["write 0 512"], "a.qcow2" },
        { "-d ignore", ["write 0 64k", "discard 0 64k", "read -P 0xcd 0 64k"], "a.qcow2" },
        { "-t bad", ["length"], "a.qcow2" },
        { "-d bad", ["length"], "a.qcow2" },
        { "-i bad", ["length"], "a.qcow2" },
        { "-U", ["length"], "a.qcow2" },
        { "-r -U", ["length"], "a.qcow2" },
        { "-k -n -m", ["length"], "a.qcow2" },
        { "--image-opts", ["length"], "driver=qcow2,file.filename=a.qcow2" },
        { "--image-opts -f qcow2", ["length"], "driver=qcow2,file.filename=a.qcow2" },
        { "", ["length"], "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"a.qcow2\"}}" },
        { "", ["length"], "nosuch" },
    };

    [Theory]
    [MemberData(nameof(Sessions))]
    public void A_session_answers_as_qemu_io_and_leaves_the_same_disk(string options, string[] commands, string image)
    {
        string[] args = [.. options.Split(' ', StringSplitOptions.RemoveEmptyEntries), .. commands.SelectMany(c => new[] { "-c", c }), image];
        Compare(args, input: null);
    }

    /// <summary>Options of blkdebug, commands.</summary>
    public static TheoryData<string, string[]> Faults() => new()
    {
        { """{"inject-error":[{"event":"write_aio","errno":28}]}""", ["write 0 64k", "read 0 512", "write 64k 64k"] },
        { """{"inject-error":[{"event":"write_aio","errno":28},{"event":"read_aio","errno":5}]}""", ["write 0 64k", "read 0 512", "write 64k 64k"] },
        { """{"inject-error":[{"event":"write_aio","errno":200,"iotype":"write"}]}""", ["write 0 64k", "read 0 512", "write 64k 64k", "flush"] },
        { """{"inject-error":[{"event":"read_aio","errno":5,"sector":700,"iotype":"read"}]}""", ["read 0 512", "read 0 1M", "read 64k 512"] },
        {
            """{"inject-error":[{"event":"read_aio","state":2,"once":true}],"set-state":[{"event":"read_aio","state":1,"new_state":2}]}""",
            ["read 0 512", "read 0 512", "read 0 512"]
        },
        { """{"inject-error":[{"event":"none","iotype":"flush"}]}""", ["write 0 64k"] },
        { """{"inject-error":[{"event":"none","iotype":"write","sector":0}]}""", ["write 0 64k", "flush"] },
        { """{"inject-error":[{"event":"l2_update","once":true}]}""", ["write 2M 64k", "flush", "write 3M 64k", "flush"] },
        { """{"inject-error":[{"event":"cluster_alloc","errno":28}]}""", ["write 2M 64k", "write 3M 64k"] },
        { """{"inject-error":[{"event":"cluster_alloc","errno":28,"once":true}]}""", ["write 2M 64k", "write 3M 64k"] },
        { """{"inject-error":[{"event":"pwritev","errno":28}]}""", ["write 2M 64k", "read 0 512"] },
        { """{"inject-error":[{"event":"write_aio","errno":28,"immediately":true,"once":true}]}""", ["write 2M 64k", "flush", "read 0 512"] },
        { """{"max-transfer":4096,"align":4096}""", ["write 1 64k", "flush", "read 0 512", "read -v 65530 20"] },
        { """{"max-transfer":4000,"align":4096}""", ["length"] },
        { """{"align":3}""", ["length"] },
        { """{"set-state":[{"event":"none"}]}""", ["length"] },
        { """{"set-state":[{"event":"none","errno":4}]}""", ["length"] },
        { """{"max-write-zero":5,"align":512}""", ["length"] },
        { """{"foo":1}""", ["length"] },
        { """{"inject-error":[{"event":"foo"}]}""", ["length"] },
        { """{"inject-error":[{"errno":1}]}""", ["length"] },
    };

    [Theory]
    [MemberData(nameof(Faults))]
    public void Faults_are_injected_where_qemus_filter_does_it(string options, string[] commands)
    {
        var rest = options.Length > 2 ? $",{options[1..]}" : "}";
        var image = """json:{"driver":"qcow2","file":{"driver":"blkdebug","image":{"driver":"file","filename":"f.qcow2"}""" + rest + "}";
        Compare([.. commands.SelectMany(c => new[] { "-c", c }), image], input: null, sameErrors: false);
    }

    /// <summary>An L2 table that was just made is not read.</summary>
    [Theory]
    [InlineData("""{"inject-error":[{"event":"l2_load"}]}""")]
    [InlineData("""{"inject-error":[{"event":"flush_to_disk","state":2}],"set-state":[{"event":"l2_load","state":1,"new_state":2}]}""")]
    [InlineData("""{"inject-error":[{"event":"l2_update","state":2}],"set-state":[{"event":"l2_load","state":1,"new_state":2}]}""")]
    public void Faults_are_injected_into_a_fresh_image_where_qemus_filter_does_it(string options)
    {
        var image = """json:{"driver":"qcow2","file":{"driver":"blkdebug","image":{"driver":"file","filename":"a.qcow2"},""" + options[1..] + "}";
        Compare(["-c", "write 0 64k", "-c", "write 64k 64k", "-c", "read 0 64k", image], input: null, sameErrors: false);
    }

    /// <summary>Options of blkdebug over an image instead of below one, commands.</summary>
    public static TheoryData<string, string[]> FaultsOverImages()
    {
        var result = new TheoryData<string, string[]>
        {
            { """{"align":4096,"inject-error":[{"event":"pwritev_rmw_head","sector":700}]}""", ["write 100 100", "read 0 512", "discard 0 1M"] },
            { """{"inject-error":[{"event":"none","iotype":"read","sector":8}]}""", ["read 0 4k", "read 4k 4k", "read 0 1M"] },
            { """{"inject-error":[{"event":"pwritev","once":true,"errno":28}]}""", ["write 2M 64k", "write 2M 64k", "read -P 0xcd 2M 64k", "truncate 20M", "length"] },
        };
        foreach (var what in new[] { "read_aio", "write_aio", "none", "pwritev", "pwritev_zero", "cow_read", "l2_load", "l2_update" })
        {
            result.Add($$$"""{"inject-error":[{"event":"{{{what}}}"}]}""", ["read -P 1 0 4k", "write 0 4k", "discard 0 64k", "write -z 0 64k", "read 0 4k", "write 100 100"]);
        }

        foreach (var kind in new[] { "read", "write", "discard", "write-zeroes" })
        {
            result.Add($$$"""{"inject-error":[{"event":"none","iotype":"{{{kind}}}"}]}""", ["read -P 1 0 4k", "write 0 4k", "discard 0 64k", "write -z 0 64k", "flush", "length"]);
        }

        return result;
    }

    [Theory]
    [MemberData(nameof(FaultsOverImages))]
    public void Faults_are_injected_over_an_image_where_qemus_filter_does_it(string options, string[] commands)
    {
        var image = """json:{"driver":"blkdebug","image":{"driver":"qcow2","file":{"driver":"file","filename":"f.qcow2"}},""" + options[1..];
        Compare([.. commands.SelectMany(c => new[] { "-c", c }), image], input: null, sameErrors: false);
    }

    [Fact]
    public void Faults_over_an_image_that_is_copied_into()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("io");
        Prepare(folder.Path);
        foreach (var (rule, exit) in new[] { (string.Empty, 0), (",inject-error.0.event=pwritev,inject-error.0.errno=28", 1) })
        {
            ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", folder["t.qcow2"], "10M");
            string[] arguments = ["convert", "-n", "--target-image-opts", folder["f.qcow2"], $"driver=blkdebug,image.driver=qcow2,image.file.driver=file,image.file.filename={folder["t.qcow2"]}{rule}"];
            Assert.Equal(exit, ToolRunner.Run("qemu-img", arguments).ExitCode);
            ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", folder["t.qcow2"], "10M");
            Assert.Equal(exit, PlatterCli.Run(arguments).ExitCode);
            ToolRunner.RunChecked("qemu-img", "check", folder["t.qcow2"]);
            Assert.Equal(exit, ToolRunner.Run("qemu-img", "compare", folder["f.qcow2"], folder["t.qcow2"]).ExitCode);
        }
    }

    /// <summary>A guest's flush is the event once, and only if it had something to flush.</summary>
    [Theory]
    [InlineData("f.qcow2", "flush", "flush", "read 0 512")]
    [InlineData("f.qcow2", "write 0 64k", "read 0 512", "flush", "read 0 512")]
    [InlineData("a.qcow2", "write 0 64k", "read 0 512", "flush", "read 0 512")]
    public void Faults_of_flushes_are_injected_where_qemus_filter_does_it(string file, params string[] commands)
    {
        var image = """json:{"driver":"qcow2","file":{"driver":"blkdebug","image":{"driver":"file","filename":"FILE"},"inject-error":[{"event":"flush_to_disk"}]}}"""
            .Replace("FILE", file, StringComparison.Ordinal);

        // A flush that fails is silent there.
        Compare(["-t", "writeback", .. commands.SelectMany(c => new[] { "-c", c }), image], input: null, sameErrors: false, text => text.Replace("flush failed: Input/output error\n", string.Empty));
    }

    [Theory]
    [InlineData("blkdebug:once:f.qcow2", "write 0 64k", "write 0 64k", "length")]
    [InlineData("blkdebug:second:f.qcow2", "read 0 64k", "read 0 64k")]
    [InlineData("blkdebug::f.qcow2", "length", "read 0 1M")]
    [InlineData("blkdebug:nosuch:f.qcow2", "length")]
    [InlineData("blkdebug:f.qcow2", "length")]
    [InlineData("blkdebug::nosuch", "length")]
    public void Faults_are_configured_by_a_file_as_for_qemu(string image, params string[] commands) =>
        Compare([.. commands.SelectMany(c => new[] { "-c", c }), image], input: null, sameErrors: false);

    /// <summary>Operations, and the events that they announce.</summary>
    [Theory]
    [InlineData("write 1M 200k;flush;write -z 0 100k;write 64k 1k", "write_aio cow_read cow_write l2_load l2_alloc_write cluster_alloc cluster_free flush_to_os refblock_update_part reftable_update l2_update l1_update flush_to_disk pwritev")]
    [InlineData("truncate 40M;write 30M 64k;truncate 5M", "l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l1_shrink_free_l2_clusters cluster_alloc refblock_alloc l2_update l1_update flush_to_disk pwritev")]
    public void After_an_error_the_peer_finds_leaks_at_worst(string commands, string events)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("io");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", folder["before.qcow2"], "10M");
        ToolRunner.RunChecked("qemu-io", "-c", "write -P 1 0 1M", "-c", "write -P 2 5000k 100k", folder["before.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "before", folder["before.qcow2"]);
        foreach (var what in events.Split(' '))
        {
            foreach (var (error, once) in new[] { (5, "true"), (28, "false") })
            {
                var image = folder["e.qcow2"];
                File.Copy(folder["before.qcow2"], image, overwrite: true);
                var name = """json:{"driver":"qcow2","file":{"driver":"blkdebug","image":{"driver":"file","filename":"IMAGE"},"inject-error":[{"event":"EVENT","errno":ERROR,"once":ONCE}]}}"""
                    .Replace("IMAGE", image, StringComparison.Ordinal).Replace("EVENT", what, StringComparison.Ordinal)
                    .Replace("ERROR", $"{error}", StringComparison.Ordinal).Replace("ONCE", once, StringComparison.Ordinal);
                var run = PlatterCli.Run(["io", "-t", "none", .. commands.Split(';').SelectMany(c => new[] { "-c", c }), name]);
                Assert.True(run.ExitCode is 0 or 1, $"{run}");
                var check = ToolRunner.Run("qemu-img", "check", image);
                Assert.True(check.ExitCode is 0 or 3, $"{run}\n{check}");
                ToolRunner.RunChecked("qemu-io", "-r", "-c", "read -P 2 5000k 100k", "-c", "read -P 1 300k 700k", image);
                ToolRunner.RunChecked("qemu-img", "snapshot", "-a", "before", image);
                ToolRunner.RunChecked("qemu-io", "-r", "-c", "read -P 1 0 1M", image);
            }
        }
    }

    [Fact]
    public void Requests_wait_at_breakpoints_as_with_qemu()
    {
        string[] commands =
        [
            "break write_aio A", "aio_write 0 512", "wait_break A", "length", "resume A", "aio_flush", "remove_break A", "resume A", "break nosuch B",
            "break write_aio C", "aio_write 0 512", "wait_break C", "remove_break C", "aio_flush", "break read_aio D", "remove_break D", "read 0 512",
        ];
        Compare(["-t", "none", .. commands.SelectMany(c => new[] { "-c", c }), "blkdebug::f.qcow2"], input: null);
        Compare(["-c", "break write_aio A", "-c", "remove_break A", "-c", "resume A", "a.qcow2"], input: null);
    }

    [Theory]
    [InlineData("length\nread 0 512\nnosuch\nquit\nlength\n")]
    [InlineData("length\nread 0 512")]
    [InlineData("\n\nlength\n")]
    [InlineData("read -P 1 0 512\nlength\n")]
    [InlineData("aio_write 0 512\naio_flush\nlength\n")]
    public void Commands_on_standard_input_are_answered_as_by_qemu_io(string input) => Compare(["a.qcow2"], input);

    [Fact]
    public void Each_command_is_answered_before_the_next_is_sent()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("io");
        Prepare(folder.Path);
        var info = new ProcessStartInfo(PlatterCli.RequireOrSkip(), ["io", folder["a.qcow2"]]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        using var process = Process.Start(info)!;
        for (var i = 0; i < 3; i++)
        {
            process.StandardInput.Write("length\n");
            process.StandardInput.Flush();
            Assert.Equal("qemu-io> 10 MiB", process.StandardOutput.ReadLine());
        }

        // A request in the background says that it has ended while the prompt waits.
        process.StandardInput.Write("aio_write 0 64k\n");
        process.StandardInput.Flush();
        Assert.EndsWith("wrote 65536/65536 bytes at offset 0", process.StandardOutput.ReadLine(), StringComparison.Ordinal);
        process.StandardInput.Close();
        Assert.True(process.WaitForExit(30_000));
        Assert.Equal(0, process.ExitCode);
    }

    private static void Compare(string[] args, string? input, bool sameErrors = true, Func<string, string>? without = null)
    {
        ToolRunner.RequireOrSkip("qemu-io", "qemu-img");
        using var theirs = new TempFolder("io");
        using var ours = new TempFolder("io");
        Prepare(theirs.Path);
        Prepare(ours.Path);
        var bytes = input is null ? null : System.Text.Encoding.UTF8.GetBytes(input);
        var peer = ToolRunner.Run(new ToolCommand("qemu-io", args) { WorkingDirectory = theirs.Path, Input = bytes });
        var platter = ToolRunner.Run(PlatterCli.Command(args) with
        {
            WorkingDirectory = ours.Path, Input = bytes, Environment = new Dictionary<string, string?> { ["PLATTER_INVOKED_AS"] = "qemu-io" },
        });
        Assert.Equal(Mask(peer.Text), Mask(without is null ? platter.Text : without(platter.Text)));
        if (sameErrors)
        {
            Assert.Equal(Mask(peer.Error), Mask(platter.Error));
        }

        Assert.Equal(peer.ExitCode, platter.ExitCode);
        foreach (var image in new[] { "a.qcow2", "o.qcow2", "f.qcow2", "r.raw" })
        {
            var format = image.EndsWith("raw", StringComparison.Ordinal) ? "raw" : "qcow2";
            if (format == "qcow2")
            {
                ToolRunner.RunChecked("qemu-img", "check", ours[image]);
            }

            ToolRunner.RunChecked("qemu-img", "compare", "-f", format, "-F", format, theirs[image], ours[image]);
        }
    }

    // Figures of time differ in every run.
    private static string Mask(string text) => ShortReport().Replace(LongReport().Replace(text, "ops; TIME"), "$1,TIME");

    private static void Prepare(string path)
    {
        File.WriteAllText(Path.Combine(path, "pat"), "hello");
        File.WriteAllBytes(Path.Combine(path, "r.raw"), new byte[1 << 20]);
        string[][] steps =
        [
            ["create", "-q", "-f", "qcow2", "base.qcow2", "1M"], ["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "o.qcow2"],
            ["create", "-q", "-f", "qcow2", "a.qcow2", "10M"], ["create", "-q", "-f", "qcow2", "f.qcow2", "10M"],
        ];
        foreach (var step in steps)
        {
            ToolRunner.Run(new ToolCommand("qemu-img", step) { WorkingDirectory = path }).Expect();
        }

        ToolRunner.Run(new ToolCommand("qemu-io", "-c", "write -P 7 64k 100k", "base.qcow2") { WorkingDirectory = path }).Expect();
        ToolRunner.Run(new ToolCommand("qemu-io", "-c", "write -P 1 0 1M", "f.qcow2") { WorkingDirectory = path }).Expect();
        File.WriteAllText(Path.Combine(path, "once"), "[inject-error]\nevent = \"write_aio\"\nerrno = \"28\"\nonce = \"on\"\n");
        File.WriteAllText(
            Path.Combine(path, "second"),
            "# the second read fails\n\n[set-state]\nevent = \"read_aio\"\nstate = \"1\"\nnew_state = \"2\"\n\n[inject-error]\nevent = \"read_aio\"\nstate = \"2\"\n");
    }

    [GeneratedRegex(@"ops; \S+( sec)? \([^)]*\)")]
    private static partial Regex LongReport();

    [GeneratedRegex(@"^(\d+,1),.*$", RegexOptions.Multiline)]
    private static partial Regex ShortReport();
}
