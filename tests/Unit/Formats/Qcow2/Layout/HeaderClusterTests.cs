using System.Text;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Layout;

public sealed class HeaderClusterTests
{
    private const string File = "test.qcow2";

    [Theory]
    [InlineData(3, 16)]
    [InlineData(3, 9)]
    [InlineData(2, 16)]
    public void What_is_written_is_read_again(int version, int clusterBits)
    {
        var cluster = Make(version, clusterBits) with
        {
            BackingFile = "base.raw"u8.ToArray(),
            BackingFormat = "raw"u8.ToArray(),
            DataFileName = version == 3 ? "data.raw"u8.ToArray() : default(ReadOnlyMemory<byte>?),
            Encryption = new EncryptionHeaderPointer(0x40000, 0x1f9000),
            Bitmaps = new byte[BitmapsExtension.Size],
        };
        var bytes = cluster.ToBytes(File);
        var again = HeaderCluster.Parse(bytes, File);
        Assert.Equal(1 << clusterBits, bytes.Length);
        Assert.Equal("base.raw", Text(again.BackingFile));
        Assert.Equal("raw", Text(again.BackingFormat!.Value));
        Assert.Equal(version == 3, again.DataFileName is not null);
        Assert.Equal(cluster.Encryption, again.Encryption);
        Assert.Equal(BitmapsExtension.Size, again.Bitmaps!.Value.Length);
        Assert.Equal(version == 3 && clusterBits == 16, again.FeatureNames is not null);
        Assert.Equal(bytes, again.ToBytes(File));
    }

    [Fact]
    public void Unknown_fields_and_extensions_are_kept()
    {
        var unknown = new HeaderExtension((HeaderExtensionType)0x12345678, default, "what is this"u8.ToArray());
        var bytes = (Make(3, 12) with { UnknownFields = new byte[] { 1, 2, 3, 4, 5, 6, 7, 8 }, Unknown = [unknown, unknown] }).ToBytes(File);
        var again = HeaderCluster.Parse(bytes, File);
        Assert.Equal((uint)Qcow2Header.KnownSize + 8, again.Header.HeaderLength);
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8], again.UnknownFields.ToArray());
        Assert.Equal(2, again.Unknown.Count);
        Assert.All(again.Unknown, extension => Assert.Equal("what is this", Text(extension.Data)));
        Assert.Equal(bytes, again.ToBytes(File));
    }

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        var cluster = Make(3, 9) with { BackingFile = new byte[393] };
        Assert.Equal(BlockErrorKind.NoSpace, Assert.Throws<ImageFormatException>(() => cluster.ToBytes(File)).Kind);
        Assert.Equal(512, (cluster with { BackingFile = new byte[392] }).ToBytes(File).Length);
        Assert.Throws<ImageFormatException>(() => (Make(3, 16) with { BackingFile = new byte[1024] }).ToBytes(File));
        Assert.Throws<ImageFormatException>(() => (Make(3, 9) with { DataFileName = new byte[500] }).ToBytes(File));
    }

    [Theory]
    [InlineData("base.raw", "raw", "other.qcow2", "qcow2")]
    [InlineData("base.raw", "raw", "base.raw", "qcow2")]
    [InlineData("base.raw", "raw", "", null)]
    [InlineData("", null, "base.raw", "raw")]
    [InlineData("x", null, "a-much-longer-name-than-before", "raw")]
    [InlineData("a-much-longer-name-than-before", "raw", "x", null)]
    public async Task A_cut_while_the_backing_file_changes_leaves_the_old_name_or_the_new(string oldName, string? oldFormat, string newName, string? newFormat)
    {
        var before = With(Make(3, 16), oldName, oldFormat).ToBytes(File);
        var storage = new Recorder(before);
        var after = await With(HeaderCluster.Parse(before, File), newName, newFormat).ReplaceAsync(storage, before);
        Assert.Equal(after, storage.Content);
        Assert.NotEmpty(storage.Torn);
        foreach (var state in storage.Torn)
        {
            var read = HeaderCluster.Parse(state, File);
            var (name, format) = (Text(read.BackingFile), read.BackingFormat is { } text ? Text(text) : null);
            Assert.True((name, format) == (oldName, oldFormat) || (name, format) == (newName, newFormat), $"{name} {format}");
        }
    }

    private static HeaderCluster With(HeaderCluster cluster, string name, string? format) => cluster with
    {
        BackingFile = Encoding.UTF8.GetBytes(name),
        BackingFormat = format is null ? default(ReadOnlyMemory<byte>?) : Encoding.UTF8.GetBytes(format),
    };

    private static HeaderCluster Make(int version, int clusterBits) => new()
    {
        Header = new Qcow2Header
        {
            Version = (uint)version, BackingFileOffset = 0, BackingFileSize = 0, ClusterBits = (uint)clusterBits, Size = 1 << 20,
            CryptMethod = CryptMethod.None, L1Size = 1, L1TableOffset = 0x30000, RefcountTableOffset = 0x10000, RefcountTableClusters = 1,
            SnapshotCount = 0, SnapshotsOffset = 0,
        },
    };

    private static string Text(ReadOnlyMemory<byte> bytes) => Encoding.UTF8.GetString(bytes.Span);

    /// <summary>Keeps, for every write, what the disk may hold while it is under way: each number of its sectors written, from either end.</summary>
    private sealed class Recorder(byte[] bytes) : Storage
    {
        public byte[] Content { get; } = bytes.ToArray();

        public List<byte[]> Torn { get; } = [];

        public override string Name => File;

        public override long Length => Content.Length;

        public override bool IsReadOnly => false;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            for (var cut = 0; cut <= Math.Min(buffer.Length, 8 * Sizes.SectorBytes); cut += Sizes.SectorBytes)
            {
                var (head, tail) = (Content.ToArray(), Content.ToArray());
                buffer.Span[..cut].CopyTo(head.AsSpan((int)at.Value));
                buffer.Span[cut..].CopyTo(tail.AsSpan((int)at.Value + cut));
                Torn.Add(head);
                Torn.Add(tail);
            }

            buffer.Span.CopyTo(Content.AsSpan((int)at.Value));
            return ValueTask.CompletedTask;
        }
    }
}
