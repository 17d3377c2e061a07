using Platter.Cli.Options;
using Xunit;

namespace Platter.Tests.Unit.Cli;

public sealed class OptionParserTests
{
    private static readonly Option s_format = new('f', "format", "FMT", "x");
    private static readonly Option s_output = new('O', "output-format", "FMT", "x");
    private static readonly Option s_outputStyle = new('\0', "output", "STYLE", "x");
    private static readonly Option s_progress = new('p', "progress", null, "x");
    private static readonly Option s_noCreate = new('n', "no-create", null, "x");
    private static readonly Option[] s_table = [s_format, s_output, s_outputStyle, s_progress, s_noCreate];

    [Theory]
    [InlineData("-Oraw")]
    [InlineData("-O", "raw")]
    [InlineData("--output-format=raw")]
    [InlineData("--output-format", "raw")]
    [InlineData("--output-f", "raw")]
    [InlineData("-pnOraw")]
    [InlineData("-pO", "raw")]
    public void Every_way_to_give_an_argument_works(params string[] words) =>
        Assert.Equal("raw", OptionParser.Parse(s_table, words).Get(s_output));

    [Fact]
    public void Bundled_letters_are_options_of_their_own()
    {
        var arguments = OptionParser.Parse(s_table, ["-pn"]);
        Assert.True(arguments.Has(s_progress) && arguments.Has(s_noCreate));
    }

    [Fact]
    public void Options_may_follow_operands()
    {
        var arguments = OptionParser.Parse(s_table, ["a", "-p", "b", "-f", "raw"]);
        Assert.Equal(["a", "b"], arguments.Operands);
        Assert.True(arguments.Has(s_progress));
        Assert.Equal("raw", arguments.Get(s_format));
    }

    [Fact]
    public void Two_dashes_end_the_options()
    {
        var arguments = OptionParser.Parse(s_table, ["-p", "--", "-n", "--what"]);
        Assert.Equal(["-n", "--what"], arguments.Operands);
        Assert.False(arguments.Has(s_noCreate));
    }

    [Fact]
    public void One_dash_is_an_operand() => Assert.Equal(["-"], OptionParser.Parse(s_table, ["-"]).Operands);

    [Fact]
    public void Before_a_command_the_first_operand_ends_the_options() =>
        Assert.Equal(["info", "-p"], OptionParser.Parse(s_table, ["info", "-p"], stopAtOperand: true).Operands);

    [Fact]
    public void An_argument_may_look_like_an_option() => Assert.Equal("-1", OptionParser.Parse(s_table, ["-f", "-1"]).Get(s_format));

    [Fact]
    public void The_last_of_several_wins_and_all_are_kept()
    {
        var arguments = OptionParser.Parse(s_table, ["-fa", "--format=b"]);
        Assert.Equal("b", arguments.Get(s_format));
        Assert.Equal(["a", "b"], arguments.GetAll(s_format));
    }

    [Fact]
    public void A_whole_name_beats_the_longer_names_it_begins() =>
        Assert.Equal("x", OptionParser.Parse(s_table, ["--output=x"]).Get(s_outputStyle));

    [Theory]
    [InlineData("unrecognized option '--nosuch'", "--nosuch")]
    [InlineData("unrecognized option '--fromat'; did you mean '--format'?", "--fromat")]
    [InlineData("unrecognized option '-x'", "-px")]
    [InlineData("option '--out' is ambiguous; possibilities: --output-format --output", "--out", "x")]
    [InlineData("missing argument for option '--format'", "--form")]
    [InlineData("missing argument for option '-f'", "-pf")]
    [InlineData("option '--progress' takes no argument", "--progress=1")]
    [InlineData("unrecognized option '--'", "--=x")]
    public void Mistakes_are_told(string message, params string[] words)
    {
        var e = Assert.Throws<UsageException>(() => OptionParser.Parse(s_table, words));
        Assert.Equal(message, e.Message);
        Assert.True(e.PointToHelp);
    }
}
