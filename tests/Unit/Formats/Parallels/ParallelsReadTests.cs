using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Parallels;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

public class ParallelsReadTests
{
    public static TheoryData<ParallelsMagic, uint, HostPlacement, uint?> Layouts()
    {
        var data = new TheoryData<ParallelsMagic, uint, HostPlacement, uint?>();
        foreach (var placement in Enum.GetValues<HostPlacement>())
        {
            foreach (var sectors in new uint[] { 1, 8, 63, 504, 512, 2048 })
            {
                data.Add(ParallelsMagic.WithoutFreeSpace, sectors, placement, null);
                data.Add(ParallelsMagic.WithoutFreeSpace, sectors, placement, 0);
                data.Add(ParallelsMagic.WithouFreSpacExt, sectors, placement, null);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Layouts))]
    public async Task Every_layout_reads_as_its_model(ParallelsMagic magic, uint clusterSectors, HostPlacement placement, uint? dataOffset)
    {
        var builder = new ParallelsImageBuilder
        {
            Magic = magic,
            ClusterSectors = clusterSectors,
            SizeSectors = (clusterSectors * 40) + (clusterSectors / 2),
            Placement = placement,
            DataOffsetSectors = dataOffset,
        };
        var image = builder.FillRandom(7, 0.4).Build();
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");

        Assert.Equal(image.Model.Size, node.VirtualSize);
        await SameAsModel(node, image.Model);
    }

    [Fact]
    public async Task Odd_ranges_read_as_the_model()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 63, SizeSectors = 63 * 50, Placement = HostPlacement.Shuffled }.FillRandom(3).Build();
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        var random = new Random(11);
        for (var i = 0; i < 300; i++)
        {
            var at = random.NextInt64(node.VirtualSize);
            var bytes = new byte[random.NextInt64(1, Math.Min(node.VirtualSize - at, 200_000) + 1)];
            await node.ReadAsync(new GuestOffset(at), bytes);
            Assert.Equal(image.Model.Slice(at, bytes.Length), bytes);
        }
    }

    internal static async Task SameAsModel(BlockNode node, ReferenceDisk model)
    {
        var buffer = new byte[1 << 20];
        for (long at = 0; at < model.Size; at += buffer.Length)
        {
            var part = buffer.AsMemory(0, (int)Math.Min(buffer.Length, model.Size - at));
            await node.ReadAsync(new GuestOffset(at), part);
            Assert.True(part.Span.SequenceEqual(model.Slice(at, part.Length)), $"differs within the MiB at {at}");
        }
    }
}
