using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Operations.Offline;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Operations;

/// <summary>Offline operations on a host that has no space left, at every single write: the error comes to the caller, the disk reads the same, its image has no
/// corruption, and with space again the operation goes on to its end.</summary>
public sealed class FullDiskTests
{
    private const string Top = "top.qcow2", Base = "base.raw", Other = "other.raw";

    [Theory]
    [InlineData("commit")]
    [InlineData("rebase")]
    [InlineData("flatten")]
    [InlineData("compat=0.10")]
    [InlineData("compat=1.1,refcount_bits=64")]
    [InlineData("refcount_bits=8,lazy_refcounts=on")]
    public async Task Whatever_write_fails_nothing_is_lost(string operation)
    {
        for (var allowed = 0; ; allowed++)
        {
            var host = new SmallHost();
            var model = Fill(host);
            host.WritesLeft = allowed;
            var failed = false;
            try
            {
                await RunAsync(host, operation);
            }
            catch (BlockException e)
            {
                Assert.Equal(BlockErrorKind.NoSpace, e.Kind);
                failed = true;
            }

            host.WritesLeft = int.MaxValue;
            await AssertGoodAsync(host, model);
            if (!failed)
            {
                Assert.True(allowed > 3, "the operation wrote nothing");
                return;
            }

            await RunAsync(host, operation);
            await AssertGoodAsync(host, model);
        }
    }

    private static byte[] Fill(SmallHost host)
    {
        var below = new ReferenceDisk(40 << 10);
        below.Fill(9, 0, 40 << 10);
        var builder = new Qcow2Builder { ClusterBits = 12, Size = 60 << 10, Backing = below, BackingFile = Base, BackingFormat = "raw", FreeClusters = 2 };
        var image = builder.FillRandom(5, 0.4).Build();
        host.Files[Top] = new(Top, image.Bytes.ToArray());
        host.Files[Base] = new(Base, below.ToArray());
        var other = below.ToArray();
        other.AsSpan(0, 9000).Clear();
        TestContent.Make(77, 0, 3000).CopyTo(other, 20000);
        host.Files[Other] = new(Other, other);
        return image.Model.ToArray();
    }

    private static async Task RunAsync(SmallHost host, string operation)
    {
        switch (operation)
        {
            case "commit":
                await using (var node = await host.OpenAsync(writable: true, writableBacking: 1))
                {
                    await CommitOperation.CopyDownAsync(node, node.Backing!);
                    await node.MakeEmptyAsync();
                }

                break;
            case "rebase" or "flatten":
                await using (var node = await host.OpenAsync(writable: true))
                {
                    var other = operation == "flatten" ? null : await new ImageOpener(host.Context).OpenAsync(new() { Options = NodeOptions.ForFile(Other), Format = "raw" });
                    await RebaseOperation.CopyDifferencesAsync(node, other);
                    await node.ChangeBackingAsync(operation == "flatten" ? null : Other, operation == "flatten" ? null : "raw");
                }

                break;
            default:
                var options = NodeOptions.ParseKeyValues(operation);
                while (options.Keys.Count > 0)
                {
                    await using var node = await host.OpenAsync(writable: true);
                    options = await node.AmendAsync(options, new AmendContext());
                }

                break;
        }
    }

    private static async Task AssertGoodAsync(SmallHost host, byte[] model)
    {
        await using var node = await host.OpenAsync(writable: false);
        var found = new byte[node.VirtualSize];
        await node.ReadAsync(default, found);
        Assert.True(found.AsSpan().SequenceEqual(model), $"the disk reads otherwise at 0x{found.AsSpan().CommonPrefixLength(model):x}");
        var findings = new List<string>();
        var report = await node.CheckAsync(f => findings.Add(f.Message));
        Assert.True(report is { Corruptions: 0, Errors: 0 }, string.Join("\n", findings));
    }

    // Files in memory; after so many writes there is no space for another one.
    private sealed class SmallHost : StorageOpener
    {
        public Dictionary<string, MemoryStorage> Files { get; } = [];

        public int WritesLeft { get; set; } = int.MaxValue;

        public OpenContext Context => new()
        {
            Formats = KnownFormats.Registry, Storages = this, Gate = new LocalFilesGate(), Codecs = Platter.Host.Codecs.HostCodecs.Instance,
        };

        public async Task<ImageNode> OpenAsync(bool writable, int writableBacking = 0) => (ImageNode)await new ImageOpener(Context).OpenAsync(
            new() { Options = NodeOptions.ForFile(Top), Format = "qcow2", Writable = writable, WritableBacking = writableBacking });

        public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default) =>
            new(new Limited(this, Files[Path.GetFileName(options["filename"]!)], mode.Writable));

        public override bool IsDirectory(NodeOptions options) => false;

        public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) => throw new NotSupportedException();

        public override bool IsStorageDriver(string driver) => driver == "file";

        private sealed class Limited(SmallHost host, MemoryStorage inner, bool writable) : Storage
        {
            public override string Name => inner.Name;

            public override long Length => inner.Length;

            public override bool IsReadOnly => !writable;

            public override string? BaseDirectory => string.Empty;

            public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
                inner.ReadAsync(at, buffer, cancellationToken);

            public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
            {
                Take();
                return inner.WriteAsync(at, buffer, cancellationToken);
            }

            public override ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
            {
                Take();
                return inner.WriteZeroesAsync(at, length, mayUnmap, cancellationToken);
            }

            public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) => inner.SetLengthAsync(length, cancellationToken);

            private void Take()
            {
                if (host.WritesLeft-- <= 0)
                {
                    host.WritesLeft = 0;
                    throw new BlockException(BlockErrorKind.NoSpace, $"{inner.Name}: No space left on device");
                }
            }
        }
    }
}
