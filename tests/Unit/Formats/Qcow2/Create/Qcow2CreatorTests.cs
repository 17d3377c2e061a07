using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Platter.Formats.Qcow2.Create;
using Platter.TestKit;
using Platter.Tests.Unit.Formats.Qcow2.Writing;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Create;

public sealed class Qcow2CreatorTests
{
    private static readonly Qcow2Format s_format = new();

    /// <summary>First bytes of <c>qemu-img create -u -f qcow2 -o compat=0.10 -b z -F raw v 1M</c> (7.2); zeros follow.</summary>
    private const string GoldenVersion2 =
        "514649fb00000002000000000000006000000001000000100000000000100000000000000000000100000000000300000000000000010000"
        + "00000001000000000000000000000000e2792aca00000003726177000000000000000000000000007a";

    /// <summary>Of <c>qemu-img create -f qcow2 -o cluster_size=4k v 1M</c>.</summary>
    private const string GoldenSmallClusters =
        "514649fb000000030000000000000000000000000000000c0000000000100000000000000000000100000000000030000000000000001000"
        + "0000000100000000000000000000000000000000000000000000000000000000000000000000000000000004000000700000000000000000";

    [Theory]
    [InlineData("compat=0.10,backing_file=z,backing_fmt=raw", GoldenVersion2)]
    [InlineData("cluster_size=4k", GoldenSmallClusters)]
    public async Task The_first_cluster_is_the_peers(string options, string golden)
    {
        var bytes = (await CreateAsync(1 << 20, options)).ToArray();
        var expected = Convert.FromHexString(golden);
        Assert.Equal(expected, bytes[..expected.Length]);
        Assert.DoesNotContain(bytes[expected.Length..4096], b => b != 0);
    }

    /// <summary>Known lengths of images that the peer made with these options.</summary>
    [Theory]
    [InlineData("", 1 << 30, 196624)]
    [InlineData("", 0, 196608)]
    [InlineData("", 70368744177664, 1245184)]
    [InlineData("cluster_size=512", 1 << 30, 264704)]
    [InlineData("cluster_size=2M", 1 << 30, 6291464)]
    [InlineData("preallocation=metadata", 1 << 30, 1074135040)]
    [InlineData("preallocation=metadata", 1099511627776, 1099679662080)]
    [InlineData("preallocation=metadata,extended_l2=on", 1 << 30, 1074266112)]
    [InlineData("preallocation=full", 100_000_000, 100335616)]
    [InlineData("preallocation=metadata", 513, 393216)]
    [InlineData("preallocation=metadata,data_file=d", 100_000_000, 327680)]
    [InlineData("data_file=d", 100_000_000, 196616)]
    public void The_file_is_as_long_as_the_peers(string options, long size, long length)
    {
        var layout = NewImageLayout.Compute(size, Qcow2CreateSettings.Parse(NodeOptions.ParseKeyValues(options)), 0);
        Assert.Equal(length, layout.FileLength);
    }

    [Fact]
    public void A_disk_that_no_L1_table_can_map_is_refused()
    {
        var settings = Qcow2CreateSettings.Parse(new NodeOptions { ["cluster_size"] = "512" });
        Assert.Equal(4194304, NewImageLayout.Compute(128 * Sizes.GiB, settings, 0).L1Entries);
        Assert.Equal(BlockErrorKind.LimitExceeded, Assert.Throws<BlockException>(() => NewImageLayout.Compute((128 * Sizes.GiB) + 1, settings, 0)).Kind);
        Assert.Throws<BlockException>(() => NewImageLayout.Compute(long.MaxValue, settings, 0));
        Assert.Throws<BlockException>(() => NewImageLayout.Compute(long.MaxValue, new Qcow2CreateSettings(), 0));
    }

    public static TheoryData<string> Options()
    {
        var result = new TheoryData<string>();
        foreach (var preallocation in new[] { "off", "metadata", "full" })
        {
            foreach (var order in new[] { 1, 2, 4, 8, 16, 32, 64 })
            {
                result.Add($"preallocation={preallocation},refcount_bits={order},cluster_size=512");
            }

            result.Add($"preallocation={preallocation}");
            result.Add($"preallocation={preallocation},compat=0.10");
            result.Add($"preallocation={preallocation},extended_l2=on,cluster_size=16k");
            result.Add($"preallocation={preallocation},cluster_size=2M,lazy_refcounts=on");
            result.Add($"preallocation={preallocation},data_file=d,compression_type=zstd");
        }

        result.Add("data_file=d,data_file_raw=on");
        return result;
    }

    [Theory]
    [MemberData(nameof(Options))]
    public async Task A_new_image_checks_clean_reads_zeros_and_can_be_written(string options)
    {
        const int Size = (3 << 20) + 512;
        var data = options.Contains("data_file", StringComparison.Ordinal) ? new MemoryStorage("d", [1, 2, 3]) : null;
        var storage = await CreateAsync(Size - 100, options, data: data, before: [9, 9, 9]);
        var model = new byte[Size];
        await WriteFixture.AssertCleanAsync(storage, data);
        await using (var node = await WriteFixture.OpenAsync(storage, data))
        {
            await WriteFixture.AssertReadsAsync(node, model);
            var bytes = TestContent.Make(1, 0, 700_000);
            await node.WriteAsync(new GuestOffset(100_000), bytes);
            bytes.CopyTo(model.AsSpan(100_000));
        }

        await WriteFixture.AssertCleanAsync(storage, data);
        await using var again = await WriteFixture.OpenAsync(storage, data, writable: false);
        await WriteFixture.AssertReadsAsync(again, model);
    }

    [Theory]
    [InlineData("encrypt.format=luks,encrypt.iter-time=0,encrypt.key-secret=s")]
    [InlineData("encrypt.format=luks,encrypt.iter-time=1,encrypt.key-secret=s,encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.hash-alg=sha512")]
    [InlineData("encrypt.format=luks,encrypt.iter-time=0,encrypt.key-secret=s,encrypt.cipher-alg=serpent-192,encrypt.hash-alg=ripemd160,compat=0.10")]
    [InlineData("encrypt.format=aes,encrypt.key-secret=s")]
    public async Task A_new_encrypted_image_opens_with_its_password_and_no_other(string options)
    {
        var storage = await CreateAsync(1 << 20, options);
        var open = new NodeOptions { ["encrypt.key-secret"] = "s" };
        await using (var driver = await s_format.OpenAsync(new MemoryStorage("copy", storage.ToArray(), readOnly: true), open, Context("secret")))
        {
            Assert.Equal(1 << 20, driver.VirtualSize);
        }

        if (options.Contains("luks", StringComparison.Ordinal))
        {
            var error = await Assert.ThrowsAsync<BlockException>(async () => await s_format.OpenAsync(storage, open, Context("wrong")));
            Assert.Equal(BlockErrorKind.WrongSecret, error.Kind);
        }
    }

    [Theory]
    [InlineData("preallocation=metadata,cluster_size=4k,lazy_refcounts=on")]
    [InlineData("")]
    [InlineData("cluster_size=512,preallocation=full")]
    public async Task A_cut_anywhere_leaves_no_image_or_the_whole_one(string options)
    {
        var old = (await CreateAsync(1 << 16, "cluster_size=1k")).ToArray();
        var storage = new CutStorage(old);
        await s_format.CreateAsync(storage, 1 << 20, Given(options), new CreateContext());
        var final = storage.Content;
        Assert.NotEmpty(storage.States);
        foreach (var state in storage.States)
        {
            // The old image, untouched; nothing that looks like one; or the new one, whole.
            var whole = state.AsSpan().SequenceEqual(old) || state.AsSpan().SequenceEqual(final);
            Assert.True(whole || s_format.Probe(state.AsSpan(0, Math.Min(state.Length, 512))) == 0);
        }
    }

    [Fact]
    public async Task An_error_at_any_write_leaves_an_empty_file()
    {
        for (var failing = 0; ; failing++)
        {
            var storage = new CutStorage([1, 2, 3]) { FailAt = failing };
            try
            {
                await s_format.CreateAsync(storage, 1 << 20, Given("preallocation=metadata"), new CreateContext());
                Assert.True(failing > 5);
                return;
            }
            catch (BlockException e)
            {
                Assert.Equal(BlockErrorKind.NoSpace, e.Kind);
                Assert.Equal(0, storage.Length);
            }
        }
    }

    [Theory]
    [InlineData("data_file_raw=on", "data-file-raw requires data-file")]
    [InlineData("encrypt.format=luks", "'encrypt.key-secret' is required")]
    [InlineData("encrypt.format=luks,encrypt.key-secret=other", "No secret")]
    [InlineData("encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=des", "'des' not supported")]
    [InlineData("encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=aes-192,encrypt.cipher-mode=cbc", "key material")]
    [InlineData("encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=-1", "too large to scale")]
    [InlineData("encrypt.format=aes,encrypt.key-secret=s,encrypt.hash-alg=md5", "'encrypt.hash-alg' is unexpected")]
    [InlineData("preallocation=metadata,backing_file=a,backing_fmt=raw", "only be used at the same time if extended_l2 is on")]
    [InlineData("cluster_size=512,backing_fmt=raw,backing_file=LONG", "Could not assign backing file")]
    public async Task Nothing_is_touched_when_options_are_wrong(string options, string message)
    {
        options = options.Replace("LONG", new string('n', 400), StringComparison.Ordinal);
        var storage = new MemoryStorage("test.qcow2", [1, 2, 3]);
        var error = await Assert.ThrowsAsync<BlockException>(async () =>
            await s_format.CreateAsync(storage, 1 << 20, Given(options), new CreateContext { Secrets = new Password("secret", "No secret") }));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        Assert.Equal([1, 2, 3], storage.ToArray());
    }

    private static NodeOptions Given(string options) => s_format.CreateOptions.Normalize(NodeOptions.ParseKeyValues(options));

    private static async Task<MemoryStorage> CreateAsync(long size, string options, MemoryStorage? data = null, byte[]? before = null)
    {
        var storage = new MemoryStorage("test.qcow2", before ?? []);
        await s_format.CreateAsync(storage, size, Given(options), new CreateContext
        {
            Secrets = new Password("secret", "No secret"),
            OpenDataFileAsync = (name, _) => new(data is null ? throw new InvalidOperationException(name) : new Kept(data)),
        });
        return storage;
    }

    private static OpenContext Context(string password) => new()
    {
        Formats = new FormatRegistry([s_format], []),
        Storages = null!,
        Gate = new ClosedGate("test"),
        Secrets = new Password(password, "no such secret"),
    };

    private sealed class Password(string password, string otherwise) : ISecretSource
    {
        public ReadOnlyMemory<byte> Get(string id) =>
            id == "s" ? System.Text.Encoding.UTF8.GetBytes(password) : throw new BlockException(BlockErrorKind.NotFound, otherwise);
    }

    /// <summary>A storage that outlives its closing.</summary>
    private sealed class Kept(MemoryStorage inner) : Storage
    {
        public override string Name => inner.Name;

        public override long Length => inner.Length;

        public override bool IsReadOnly => false;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            inner.ReadAsync(at, buffer, cancellationToken);

        public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
            inner.WriteAsync(at, buffer, cancellationToken);

        public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) => inner.SetLengthAsync(length, cancellationToken);
    }

    /// <summary>Remembers what a cut of power may leave: any one of the changes since the last flush alone, all but one, or all; or fails at one of them.</summary>
    private sealed class CutStorage(byte[] bytes) : Storage
    {
        private readonly List<Func<byte[], byte[]>> _pending = [];
        private byte[] _durable = bytes;
        private int _changes;

        public int FailAt { get; init; } = -1;

        public List<byte[]> States { get; } = [];

        public byte[] Content { get; private set; } = bytes;

        public override string Name => "test.qcow2";

        public override long Length => Content.Length;

        public override bool IsReadOnly => false;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var copy = buffer.ToArray();
            return Change(content =>
            {
                var result = new byte[Math.Max(content.Length, at.Value + copy.Length)];
                content.CopyTo(result, 0);
                copy.CopyTo(result, at.Value);
                return result;
            });
        }

        public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) => Change(content =>
        {
            var result = new byte[length];
            content.AsSpan(0, (int)Math.Min(length, content.Length)).CopyTo(result);
            return result;
        });

        public override ValueTask FlushAsync(CancellationToken cancellationToken = default)
        {
            for (var i = 0; i < _pending.Count; i++)
            {
                States.Add(_pending[i](_durable));
                States.Add(_pending.Where((_, index) => index != i).Aggregate(_durable, (content, change) => change(content)));
            }

            _durable = Content;
            _pending.Clear();
            return ValueTask.CompletedTask;
        }

        private ValueTask Change(Func<byte[], byte[]> change)
        {
            if (_changes++ == FailAt)
            {
                throw new BlockException(BlockErrorKind.NoSpace, $"{Name}: no space");
            }

            _pending.Add(change);
            Content = change(Content);
            States.Add(Content);
            return ValueTask.CompletedTask;
        }
    }
}
