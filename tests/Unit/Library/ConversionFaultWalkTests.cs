using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Qcow2;
using Platter.Operations.Copy;
using Platter.TestKit;
using Platter.Tests.Unit.Formats.Qcow2.Writing;
using Xunit;

namespace Platter.Tests.Unit.Library;

/// <summary>Goal: a conversion that an I/O error ends tells it, and leaves nothing, or an image that says that it is unfinished and can be completed, or the whole copy.
/// Method: <see cref="FaultWalk"/>.</summary>
public sealed class ConversionFaultWalkTests
{
    private const int Size = (70 * 1024) + 512;
    private const string Source = "source.raw";

    [Theory]
    [InlineData("cluster_size=1k", false)]
    [InlineData("cluster_size=4k", true)]
    [InlineData("cluster_size=512,preallocation=metadata,lazy_refcounts=on", false)]
    public async Task Errors_during_a_conversion_leave_no_half_copy_that_looks_whole(string options, bool compresses)
    {
        var content = new byte[Size];
        TestContent.Make(6, 0, 20_000).CopyTo(content, 512);
        TestContent.MakeCompressible(7, 30_000).CopyTo(content, 36_000);
        var walk = new FaultWalk([], content);
        walk.Add(Source, content);
        await walk.RunAsync(
            async disk =>
            {
                await CreateAsync(disk.Failing, options);
                await FillAsync(disk.Failing, compresses, resumes: false);
            },
            async (disk, when, failed) =>
            {
                var problem = await ProblemAsync(disk.Healthy);
                Assert.True(problem is null || failed, $"{when}: {problem}");
                if (problem?.Kind == BlockErrorKind.Unsupported)
                {
                    await FillAsync(disk.Healthy, compresses, resumes: true);
                }
                else if (problem is not null)
                {
                    await CreateAsync(disk.Healthy, options);
                    await FillAsync(disk.Healthy, compresses, resumes: false);
                }

                await FaultWalk.AssertUncorruptedAsync(disk, when);
                await walk.AssertSameAsync(disk, when);
                await FaultWalk.AssertUsableAsync(disk, when);
            });
    }

    private static async Task CreateAsync(NamedStorages storages, string options)
    {
        var format = new Qcow2Format();
        await using var storage = await storages.OpenAsync(NodeOptions.ForFile(FaultWalk.Top), new StorageOpenMode { Writable = true });
        await format.CreateAsync(storage, Size, format.CreateOptions.Normalize(NodeOptions.ParseKeyValues(options)), new CreateContext { Unfinished = true });
    }

    private static async Task FillAsync(NamedStorages storages, bool compresses, bool resumes)
    {
        await using var source = await new ImageOpener(storages.Context()).OpenAsync(new OpenRequest { Options = NodeOptions.ForFile(Source), Format = "raw" });
        await using var target = await OpenAsync(storages, writable: true);
        await new ImageFilling(source, target, []).RunAsync(
            new CopyOptions { Workers = 1, TargetIsZero = !resumes }, compresses, isNew: true, resumes, null, default);
    }

    private static async Task<BlockException?> ProblemAsync(NamedStorages storages)
    {
        try
        {
            await using var node = await OpenAsync(storages, writable: false);
            return null;
        }
        catch (BlockException e) when (e.Kind is BlockErrorKind.WrongFormat or BlockErrorKind.CorruptImage or BlockErrorKind.Unsupported)
        {
            return e;
        }
    }

    private static ValueTask<BlockNode> OpenAsync(NamedStorages storages, bool writable)
    {
        var known = storages.Context();
        var context = new OpenContext { Formats = known.Formats, Storages = storages, Gate = known.Gate, Codecs = known.Codecs, AllowUnfinished = writable };
        return new ImageOpener(context).OpenAsync(new OpenRequest { Options = NodeOptions.ForFile(FaultWalk.Top), Format = "qcow2", Writable = writable });
    }
}
