using Platter.Core.Errors;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Library;

/// <summary>A disk that was taken for raw because nobody said what it is must not be made look like an image.</summary>
public sealed class UndeclaredRawTests
{
    private static readonly byte[] s_header = [0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3];

    [Theory]
    [InlineData(8)]
    [InlineData(1)]
    [InlineData(4096)]
    public async Task A_header_is_refused_in_whatever_pieces_it_comes(int piece)
    {
        using var folder = new TempFolder("raw");
        File.WriteAllBytes(folder["disk"], new byte[65536]);
        var warnings = new List<string>();
        await using (var disk = await Disk.OpenAsync(folder["disk"], new() { Writable = true, Warn = warnings.Add }, TestContext.Current.CancellationToken))
        {
            var bytes = new byte[Math.Max(piece, s_header.Length)];
            s_header.CopyTo(bytes, 0);
            var refused = await Assert.ThrowsAsync<BlockException>(async () =>
            {
                for (var at = 0; at < bytes.Length; at += piece)
                {
                    await disk.WriteAsync(at, bytes.AsMemory(at, piece), TestContext.Current.CancellationToken);
                }
            });
            Assert.Equal(BlockErrorKind.NotAllowed, refused.Kind);
            Assert.Contains("would look like qcow2", refused.Message, StringComparison.Ordinal);
            await disk.WriteAsync(0, new byte[] { 0xeb, 0x63, 0x90 }, TestContext.Current.CancellationToken);
        }

        Assert.Contains("taken for raw", Assert.Single(warnings), StringComparison.Ordinal);
        await using var again = await Disk.OpenAsync(folder["disk"], cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal("raw", again.Format);
    }

    [Fact]
    public async Task Who_says_that_it_is_raw_may_write_what_he_likes()
    {
        using var folder = new TempFolder("raw");
        File.WriteAllBytes(folder["disk"], new byte[65536]);
        await using var disk = await Disk.OpenAsync(
            folder["disk"], new() { Writable = true, Format = "raw", Warn = Assert.Fail }, TestContext.Current.CancellationToken);
        await disk.WriteAsync(0, s_header, TestContext.Current.CancellationToken);
    }
}
