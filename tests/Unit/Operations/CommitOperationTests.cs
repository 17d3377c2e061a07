using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Operations;

/// <summary>What may be opened for a commit.</summary>
public sealed class CommitOperationTests
{
    [Theory]
    [InlineData("raw", true)]
    [InlineData(null, false)]
    public async Task A_backing_file_whose_format_nobody_says_is_not_opened_for_writing(string? format, bool allowed)
    {
        var below = new ReferenceDisk(8192);
        var image = new Qcow2Builder { ClusterBits = 12, Size = 8192, Backing = below, BackingFile = "base", BackingFormat = format }.Build();
        var files = new Dictionary<string, MemoryStorage> { ["top"] = new("top", image.Bytes.ToArray()), ["base"] = new("base", below.ToArray()) };
        var opener = new ImageOpener(new NamedStorages((name, _) => files.GetValueOrDefault(name)).Context());
        var request = new OpenRequest { Options = NodeOptions.ForFile("top"), Writable = true, WritableBacking = 1 };
        if (allowed)
        {
            await using var node = await opener.OpenAsync(request);
            Assert.False(node.Backing!.IsReadOnly);
            return;
        }

        var refused = await Assert.ThrowsAsync<BlockException>(async () => await opener.OpenAsync(request));
        Assert.Contains("does not say what format its backing file has", refused.Message);
    }
}
