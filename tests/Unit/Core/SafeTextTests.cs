using Platter.Core.Errors;
using Xunit;

namespace Platter.Tests.Unit.Core;

public sealed class SafeTextTests
{
    [Theory]
    [InlineData("plain näme ✓", "plain näme ✓")]
    [InlineData("a\x1b[31mred\x07", "a\\x1b[31mred\\x07")]
    [InlineData("two\nlines", "two\\x0alines")]
    [InlineData("right\u202eleft", "right\\u202eleft")]
    [InlineData("😀", "😀")]
    public void Nothing_that_moves_a_terminal_passes(string text, string shown) => Assert.Equal(shown, SafeText.Clean(text));

    [Fact]
    public void Half_a_character_is_spelled_out() => Assert.Equal("half\\ud800", SafeText.Clean("half\ud800"));

    [Fact]
    public void Long_text_is_cut() => Assert.Equal(new string('x', 100) + "...", SafeText.Clean(new string('x', 100_000), 100));
}
