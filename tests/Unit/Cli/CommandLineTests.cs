using Platter.Cli;
using Platter.Cli.Commands;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Cli;

public sealed class CommandLineTests
{
    [Theory]
    [InlineData("Command not found: nosuch", "nosuch")]
    [InlineData("Command not found: inof; did you mean 'info'?", "inof")]
    [InlineData("Not enough arguments")]
    [InlineData("unrecognized option '--nosuch'", "--nosuch")]
    [InlineData("Expecting one image file name", "info")]
    [InlineData("Expecting one image file name", "map", "a", "b")]
    [InlineData("Expecting two image file names", "compare", "a")]
    public async Task A_wrong_command_line_is_told_with_a_pointer_to_help(string message, params string[] args)
    {
        var run = await CliRun.PlatterAsync(args);
        Assert.Equal(1, run.ExitCode);
        var subject = args is ["info" or "map" or "compare", ..] ? $"platter {args[0]}" : "platter";
        Assert.Equal($"platter: {message}\nTry '{subject} --help' for more information\n", run.Error);
        Assert.Empty(run.Output);
        Assert.EndsWith("Try 'qemu-img --help' for more information\n", (await CliRun.AsAsync("qemu-img", args)).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("tracing is not supported", "-T", "x", "info", "a")]
    [InlineData("--output must be used with human or json as argument.", "info", "--output=xml", "a")]
    [InlineData("--image-opts and --format are mutually exclusive", "info", "--image-opts", "-fraw", "a")]
    [InlineData("-r needs the image to itself: -U cannot be used with it", "check", "-r", "all", "-U", "a")]
    [InlineData("Must specify image file name", "convert", "a")]
    [InlineData("Compression not supported for this file format", "convert", "-c", "a", "b")]
    [InlineData("Backing file not supported for file format 'raw'", "convert", "-B", "x", "a", "b")]
    [InlineData("Format driver 'raw' does not support bitmaps", "convert", "--bitmaps", "a", "b")]
    [InlineData("Use of --skip-broken-bitmaps requires --bitmaps", "convert", "--skip-broken-bitmaps", "a", "b")]
    [InlineData("writing vmdk is not in this version yet: the target can be raw, qcow2, parallels or parallels-bundle (-O)", "convert", "-O", "vmdk", "a", "b")]
    [InlineData("Unknown file format 'nosuch'", "convert", "-O", "nosuch", "a", "b")]
    [InlineData("Invalid number of coroutines. Allowed number of coroutines is between 1 and 16", "convert", "-m", "17", "a", "b")]
    [InlineData("Invalid cache option: bogus", "convert", "-t", "bogus", "a", "b")]
    [InlineData("Invalid source cache option: bogus", "convert", "-T", "bogus", "a", "b")]
    [InlineData("Cannot enable copy offloading when -S is used", "convert", "-C", "-S", "4k", "a", "b")]
    [InlineData("--target-is-zero requires use of -n flag", "convert", "--target-is-zero", "a", "b")]
    [InlineData("--target-image-opts requires use of -n flag", "convert", "--target-image-opts", "a", "b")]
    [InlineData("No support for concatenating multiple snapshot", "convert", "-l", "s", "a", "b", "c")]
    [InlineData("Invalid parameter 'x'", "convert", "-o", "x=y", "a", "b")]
    [InlineData("invalid parameter value: bad", "convert", "-o", "preallocation=bad", "a", "b")]
    [InlineData("Must specify both input and output files", "dd", "if=x")]
    [InlineData("unrecognized operand seek", "dd", "if=x", "of=y", "seek=3")]
    [InlineData("unrecognized operand x", "dd", "x")]
    [InlineData("Invalid bs specified. Must be between 1 and 2147483647.", "dd", "bs=0", "if=x", "of=y")]
    [InlineData("Either --size N or one filename must be specified.", "measure")]
    [InlineData("--size N cannot be used together with a filename.", "measure", "--size", "1G", "x")]
    [InlineData("Unknown file format 'nosuch'", "measure", "-Onosuch", "--size", "1")]
    [InlineData("--object: type 'iothread' is not supported; secret, tls-creds-x509, tls-creds-psk, authz-simple, authz-list, authz-list-file are", "info", "--object", "iothread,id=a", "x")]
    [InlineData("--object: secret needs an id", "info", "--object", "secret,data=a", "x")]
    [InlineData("--object: secret 's' needs either data or file", "info", "--object", "secret,id=s", "x")]
    [InlineData("--object: id 's' is used twice", "info", "--object", "secret,id=s,data=a", "--object", "secret,id=s,data=b", "x")]
    [InlineData("--object: secret has no option 'dat'", "info", "--object", "secret,id=s,dat=a", "x")]
    public async Task What_cannot_be_done_is_refused_in_one_line(string message, params string[] args)
    {
        var run = await CliRun.PlatterAsync(args);
        Assert.Equal($"platter: {message}\n", run.Error);
        Assert.Equal(1, run.ExitCode);
    }

    [Theory]
    [InlineData("daemon")]
    public async Task Commands_of_later_versions_are_named_as_such(string command)
    {
        var run = await CliRun.PlatterAsync(command, "x");
        Assert.StartsWith($"platter: '{command}' is not in this version yet", run.Error, StringComparison.Ordinal);
        Assert.Equal(1, run.ExitCode);
    }

    [Fact]
    public async Task The_version_printed_is_the_version_built()
    {
        var built = typeof(Disk).Assembly.GetName().Version!.ToString(3);
        Assert.Equal(Persona.Version, built);
        Assert.Equal($"platter {built}\n", (await CliRun.PlatterAsync("--version")).Output);
        Assert.Matches(@"^qemu-img version \d+\.\d+\.\d+ \(Platter ", (await CliRun.AsAsync("qemu-img", ["-V"])).Output);
    }

    [Fact]
    public async Task Help_of_every_command_lists_each_option_once()
    {
        foreach (var command in CommandTable.All())
        {
            var run = await CliRun.PlatterAsync([.. command.Name.Split(' '), "--help"]);
            Assert.Equal(0, run.ExitCode);
            Assert.StartsWith($"Usage: platter {command.Name} ", run.Output, StringComparison.Ordinal);
            Assert.Equal(run.Output, (await CliRun.PlatterAsync(["help", .. command.Name.Split(' ')])).Output);
            Assert.DoesNotContain(run.Output.Split('\n'), line => line.Length > 120);
            foreach (var option in command.Options)
            {
                Assert.True(option.Short != '\0' || option.Long.Length > 0);
                var spelled = option.Short == '\0' ? $"      --{option.Long}" : $"  -{option.Short}, --{option.Long}";
                var lines = run.Output.Split('\n').Count(line => line.StartsWith(spelled, StringComparison.Ordinal)
                    && (line.Length == spelled.Length || line[spelled.Length] is '=' or ' ' or '['));
                Assert.Equal(option.Help.Length > 0 ? 1 : 0, lines);
            }
        }
    }

    [Fact]
    public void No_command_has_two_options_of_one_name()
    {
        foreach (var command in CommandTable.All())
        {
            var letters = command.Options.Where(o => o.Short != '\0').Select(o => o.Short).ToList();
            var words = command.Options.Where(o => o.Long.Length > 0).Select(o => o.Long).ToList();
            Assert.Equal(letters.Count, letters.Distinct().Count());
            Assert.Equal(words.Count, words.Distinct().Count());
        }
    }

    [Fact]
    public async Task Text_from_the_command_line_is_printed_without_control_characters()
    {
        var run = await CliRun.PlatterAsync("info", "no\u001b[31msuch\nfile");
        Assert.DoesNotContain('\u001b', run.Error);
        Assert.Single(run.Error.TrimEnd('\n').Split('\n'));
    }

    [Fact]
    public async Task A_missing_file_is_told_as_the_peer_tells_it_and_once()
    {
        using var folder = new TempFolder();
        var name = folder["missing"];
        var run = await CliRun.PlatterAsync("info", name);
        Assert.Equal($"platter: Could not open '{name}': No such file or directory\n", run.Error);
        Assert.Equal(1, run.ExitCode);
        Assert.Equal(2, (await CliRun.PlatterAsync("compare", name, name)).ExitCode);
    }

    [Fact]
    public async Task Started_under_a_peers_name_messages_carry_that_name() =>
        Assert.StartsWith("qemu-img: ", (await CliRun.AsAsync("qemu-img", ["nosuch"])).Error, StringComparison.Ordinal);
}
