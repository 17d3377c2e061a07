using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Writing to Parallels images: one that is refused is not touched; one that is accepted reads what was written and checks clean when it is
/// closed, whatever it said before.</summary>
internal sealed class ParallelsWriteTarget : FuzzTarget
{
    private readonly ParallelsTarget _images = new();

    public override string Name => "parallels-write";

    public override int BoundedCases => 1500;

    /// <inheritdoc/>
    /// <remarks>A Format Extension may have 64 MiB, and is made anew with every change of a bitmap.</remarks>
    public override long MaxAllocatedBytes => 1L << 30;

    public override FuzzInput Make(Random random) => _images.Make(random);

    public override FuzzInput FromFinding(byte[] bytes) => _images.FromFinding(bytes);

    public override async ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken)
    {
        var storage = new ScratchStorage(input.Main, input.MainBytes.Clone());
        ImageNode? node = null;
        await Oracle.AllowsAsync(input.Main, async () => node = await OpenAsync(storage, metadataOnly: false, cancellationToken));
        if (node is null)
        {
            Demand(!storage.IsChanged, "the image was refused, and has changed");
            return;
        }

        var done = false;
        await Oracle.AllowsAsync(input.Main, async () =>
        {
            await using (node)
            {
                for (var i = 0; i < 6; i++)
                {
                    await RequestAsync(node, random, cancellationToken);
                }
            }

            done = true;
        });
        if (done)
        {
            await using var driver = await OpenAsync(storage, metadataOnly: true, cancellationToken);
            var findings = new List<string>();
            var report = await driver.CheckAsync(finding => findings.Add(finding.Message), null, cancellationToken);
            Demand(report is { Corruptions: 0, Leaks: 0, Errors: 0 } || !storage.IsChanged, $"it was written to and closed: {string.Join("; ", findings.Take(5))}");
        }
    }

    private static async ValueTask RequestAsync(ImageNode node, Random random, CancellationToken cancellationToken)
    {
        var size = node.VirtualSize;
        var at = new GuestOffset(size == 0 ? 0 : random.NextInt64(size));
        var length = (int)Math.Min(random.Next(1, 20_000), size - at.Value);
        switch (random.Next(8))
        {
            case 0:
                await node.WriteZeroesAsync(at, length, random.Next(2) == 0 ? WriteFlags.MayUnmap : WriteFlags.None, cancellationToken);
                await DemandAsync(node, at, new byte[length], cancellationToken);
                break;
            case 1:
                await node.DiscardAsync(at, length, cancellationToken);
                break;
            case 2 when size < 1 << 30:
                await node.ResizeAsync(Math.Max(0, (size + random.Next(-50_000, 500_000)) / 512 * 512), cancellationToken);
                break;
            case 3:
                await node.AddBitmapsAsync([new(new Guid(random.Next(), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10).ToString(), 1L << random.Next(9, 20))], cancellationToken);
                break;
            case 4 when node.Bitmaps.Count > 0:
                await node.RemoveBitmapAsync(node.Bitmaps[0].Name, cancellationToken);
                break;
            case 5:
                await node.FlushAsync(cancellationToken);
                break;
            default:
                var bytes = TestContent.Make(random.Next(), at.Value, length);
                await node.WriteAsync(at, bytes, WriteFlags.None, cancellationToken);
                await DemandAsync(node, at, bytes, cancellationToken);
                break;
        }
    }

    private static async ValueTask DemandAsync(ImageNode node, GuestOffset at, byte[] wanted, CancellationToken cancellationToken)
    {
        var found = new byte[wanted.Length];
        await node.ReadAsync(at, found, cancellationToken);
        Demand(found.AsSpan().SequenceEqual(wanted), $"{wanted.Length} bytes at {at} do not read as they were written");
    }

    private static async ValueTask<ImageNode> OpenAsync(Storage storage, bool metadataOnly, CancellationToken cancellationToken) =>
        new(
            await new ParallelsFormat().OpenAsync(
                storage, new NodeOptions(),
                new OpenContext { Formats = KnownFormats.Registry, Storages = null!, Gate = new ClosedGate("only the image"), MetadataOnly = metadataOnly }, cancellationToken),
            null);

    private static void Demand(bool holds, string otherwise)
    {
        if (!holds)
        {
            throw new FuzzException(otherwise);
        }
    }

    // Not closed with its driver, so that it can be looked at.
    private sealed class ScratchStorage(string name, SparseBytes bytes) : Storage
    {
        public bool IsChanged { get; private set; }

        public override string Name => name;

        public override long Length => bytes.Length;

        public override bool IsReadOnly => false;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Demand(at.Value >= 0, $"read at {at}");
            var inside = (int)Math.Clamp(bytes.Length - at.Value, 0, buffer.Length);
            bytes.Read(at.Value, buffer.Span[..inside]);
            return new(inside);
        }

        public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Grow(at, buffer.Length);
            bytes.Write(at.Value, buffer.Span);
            return default;
        }

        public override ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
        {
            Grow(at, length);
            bytes.Zero(at.Value, length);
            return default;
        }

        public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
        {
            Demand(length >= 0, $"length {length}");
            IsChanged = true;
            bytes.SetLength(length);
            return default;
        }

        public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => default;

        private void Grow(HostOffset at, long length)
        {
            Demand(at.Value >= 0 && length >= 0, $"{length} bytes at {at}");
            IsChanged = true;
            if (at.Value + length > bytes.Length)
            {
                bytes.SetLength(at.Value + length);
            }
        }
    }
}
