using System.Diagnostics;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>platter serve</c> and <c>qemu-nbd</c> as processes: what they print, whom they serve, how they end.</summary>
public sealed class ServeTests : IDisposable
{
    private readonly TempFolder _folder = new("serve");

    [Fact]
    public void Clients_read_what_the_image_holds()
    {
        ToolRunner.RequireOrSkip("qemu-img", "nbdinfo", "nbdcopy");
        var image = MakeImage();
        using var server = Serve("-x", "disk 1", "-D", "a description", image);
        ToolRunner.RunChecked("qemu-img", "compare", image, server.Uri);
        ToolRunner.RunChecked("nbdcopy", server.Uri, _folder["copy.raw"]);
        ToolRunner.RunChecked("qemu-img", "compare", "-F", "raw", image, _folder["copy.raw"]);
        var info = ToolRunner.RunChecked("nbdinfo", server.Uri).Text;
        Assert.Contains("export-size: 12582912", info, StringComparison.Ordinal);
        Assert.Contains("is_read_only: true", info, StringComparison.Ordinal);
        Assert.Contains("a description", ToolRunner.RunChecked("nbdinfo", "--list", server.Uri).Text, StringComparison.Ordinal);
    }

    [Fact]
    public void Our_own_client_reads_it_too()
    {
        var image = MakeImage();
        using var server = Serve(image);
        Assert.Equal("Images are identical.\n", PlatterCli.RunChecked("compare", image, server.Uri).Text);
        PlatterCli.RunChecked("convert", server.Uri, _folder["copy.raw"]);
        Assert.Equal("Images are identical.\n", PlatterCli.RunChecked("compare", "-F", "raw", image, _folder["copy.raw"]).Text);
        Assert.Contains("disk size: unavailable", PlatterCli.RunChecked("info", server.Uri).Text, StringComparison.Ordinal);
    }

    [Fact]
    public void A_port_has_one_server()
    {
        var image = MakeImage();
        using var first = new Server(PlatterCli.RequireOrSkip(), "serve", "-p", "0", image);
        var port = new Uri(first.Uri).Port;
        var second = PlatterCli.Run("serve", "-p", $"{port}", image);
        Assert.Equal(1, second.ExitCode);
        Assert.Contains("in use", second.Error, StringComparison.OrdinalIgnoreCase);
    }

    [Theory]
    [InlineData("TERM")]
    [InlineData("INT")]
    public void A_signal_ends_it_cleanly_and_takes_the_socket_away(string signal)
    {
        using var server = Serve(MakeImage());
        Assert.True(File.Exists(_folder["s.sock"]));
        Assert.Equal(0, server.StopWith(signal));
        Assert.False(File.Exists(_folder["s.sock"]));
        Assert.Empty(server.Error);
    }

    [Fact]
    public void Once_means_until_the_last_client_has_gone()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        using var server = Serve("--once", MakeImage());
        ToolRunner.RunChecked("nbdinfo", "--size", server.Uri);
        Assert.Equal(0, server.WaitForExit());
    }

    [Fact]
    public void A_free_port_is_chosen_and_told()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        using var server = new Server(PlatterCli.RequireOrSkip(), "serve", "-p", "0", MakeImage());
        Assert.Matches(@"^nbd://localhost:\d+/$", server.Uri);
        Assert.Equal("12582912", ToolRunner.RunChecked("nbdinfo", "--size", server.Uri).Text.Trim());
    }

    [Fact]
    public void A_slice_begins_at_the_offset()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        using var server = Serve("-o", "2M", MakeImage());
        Assert.Equal($"{10 << 20}", ToolRunner.RunChecked("nbdinfo", "--size", server.Uri).Text.Trim());
    }

    [Fact]
    public void A_file_that_is_no_socket_is_not_replaced()
    {
        var file = _folder.Write("precious", "data");
        var run = PlatterCli.Run("serve", "-k", file, MakeImage());
        Assert.Equal(1, run.ExitCode);
        Assert.Equal("data", File.ReadAllText(file));
    }

    [Fact]
    public void The_pid_file_is_there_when_clients_can_connect()
    {
        using var server = Serve("--pid-file", _folder["pid"], MakeImage());
        Assert.Equal($"{server.ProcessId}", File.ReadAllText(_folder["pid"]).Trim());
    }

    [Fact]
    public void Under_the_peers_name_it_goes_to_the_background()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        var link = PlatterCli.LinkAs(_folder, "qemu-nbd");
        var socket = _folder["s.sock"];
        ToolRunner.Run(new ToolCommand(link, "-r", "-t", "-k", socket, "--fork", "--pid-file", _folder["pid"], MakeImage())
        {
            Timeout = TimeSpan.FromSeconds(30),
        }).Expect();
        var id = int.Parse(File.ReadAllText(_folder["pid"]), null);
        try
        {
            Assert.Equal("12582912", ToolRunner.RunChecked("nbdinfo", "--size", $"nbd+unix:///?socket={socket}").Text.Trim());
        }
        finally
        {
            ToolRunner.RunChecked("kill", $"{id}");
        }

        for (var i = 0; i < 500 && File.Exists(socket); i++)
        {
            Thread.Sleep(20);
        }

        Assert.False(File.Exists(socket), "the background server did not end");
    }

    [Fact]
    public void A_background_server_that_cannot_start_says_why()
    {
        var link = PlatterCli.LinkAs(_folder, "qemu-nbd");
        var run = ToolRunner.Run(link, "-r", "--fork", "-k", _folder["s.sock"], _folder["missing"]);
        Assert.Equal((1, $"qemu-nbd: Could not open '{_folder["missing"]}': No such file or directory\n"), (run.ExitCode, run.Error));
    }

    [Fact]
    public void Without_a_place_to_listen_it_fails_in_one_line()
    {
        var run = PlatterCli.Run("serve", "-k", "/nonexistent/s.sock", MakeImage());
        Assert.Equal(1, run.ExitCode);
        Assert.StartsWith("platter: ", run.Error, StringComparison.Ordinal);
        Assert.Single(run.Error.TrimEnd('\n').Split('\n'));
    }

    public void Dispose() => _folder.Dispose();

    private string MakeImage()
    {
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", _folder["a.qcow2"], "12M");
        ToolRunner.RunChecked("qemu-io", "-c", "write -P 1 0 1M", "-c", "write -P 2 5M 100k", "-c", "write -c -P 3 8M 64k", _folder["a.qcow2"]);
        return _folder["a.qcow2"];
    }

    private Server Serve(params string[] args) => new(PlatterCli.RequireOrSkip(), ["serve", "-k", _folder["s.sock"], .. args]);

    private sealed class Server : IDisposable
    {
        private readonly Process _process;

        public Server(string program, params string[] args)
        {
            _process = Process.Start(new ProcessStartInfo(program, args) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            Uri = _process.StandardOutput.ReadLine() ?? throw new InvalidOperationException(_process.StandardError.ReadToEnd());
        }

        public string Uri { get; }

        public int ProcessId => _process.Id;

        public string Error => _process.StandardError.ReadToEnd();

        public int StopWith(string signal)
        {
            ToolRunner.RunChecked("kill", $"-{signal}", $"{_process.Id}");
            return WaitForExit();
        }

        public int WaitForExit()
        {
            Assert.True(_process.WaitForExit(30_000), "the server did not end");
            return _process.ExitCode;
        }

        public void Dispose()
        {
            if (!_process.HasExited)
            {
                _process.Kill();
            }

            _process.Dispose();
        }
    }
}
