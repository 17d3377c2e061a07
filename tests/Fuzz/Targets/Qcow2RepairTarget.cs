using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Repairs of qcow2 images: whatever the image says, nothing that was there is overwritten but the first sector, the last check is that of any later
/// reader, and the repair can be taken back to the last byte.</summary>
internal sealed class Qcow2RepairTarget : FuzzTarget
{
    private readonly Qcow2Target _images = new();

    public override string Name => "qcow2-repair";

    public override int BoundedCases => 1500;

    // A case is a check, a repair with a check of its own, and two more checks of what came of it.
    public override long MaxAllocatedBytes => 512L << 20;

    public override FuzzInput Make(Random random) => _images.Make(random);

    public override FuzzInput FromFinding(byte[] bytes) => _images.FromFinding(bytes);

    public override async ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken)
    {
        var mode = random.Next(4) == 0 ? RepairMode.Leaks : RepairMode.All;
        var storage = new AppendedStorage(input.Main, input.MainBytes.Clone());
        RepairUndo? undo = null;
        RepairReport? report = null;
        await Oracle.AllowsAsync(input.Main, async () =>
        {
            await using var driver = await OpenAsync(storage, forRepair: true, cancellationToken);
            var options = new RepairOptions(mode) { BeforeSwitch = (made, _) => { undo = made; return default; } };
            var places = new HashSet<HostOffset>();
            report = await driver.RepairAsync(options, finding => Note(finding, places), null, cancellationToken);
            await driver.FindUsersAsync(places, 4, cancellationToken);
        });
        if (report is null)
        {
            Demand(storage.Bytes.Sha256() == input.MainBytes.Sha256(), "the repair failed, and the image has changed");
            return;
        }

        Demand(report.IsChanged == undo is not null, "an undo file was made for nothing, or is missing");
        Demand(mode == RepairMode.Leaks || report.Check.Leaks == 0, $"leaks are left: {report}");
        await using (var driver = await OpenAsync(storage, forRepair: false, cancellationToken))
        {
            var check = await driver.CheckAsync(static _ => { }, null, cancellationToken);
            Demand(check == report.Check, $"the repair says {report.Check}, a check {check}");
        }

        if (undo is not null)
        {
            await SwitchUndo.Parse(((SwitchUndo)undo).ToBytes(), "undo").ApplyAsync(storage, cancellationToken);
            Demand(storage.Bytes.Sha256() == input.MainBytes.Sha256(), "the repair was taken back, and the image is not what it was");
        }
    }

    private static void Note(CheckFinding finding, HashSet<HostOffset> places)
    {
        Oracle.Line(finding.Message);
        if (finding.HostOffset is { } place)
        {
            places.Add(place);
        }
    }

    private static ValueTask<ImageDriver> OpenAsync(Storage storage, bool forRepair, CancellationToken cancellationToken) => new Qcow2Format().OpenAsync(
        storage, new NodeOptions(),
        new OpenContext { Formats = KnownFormats.Registry, Storages = null!, Gate = new ClosedGate("only the image"), MetadataOnly = true, ForRepair = forRepair }, cancellationToken);

    private static void Demand(bool holds, string otherwise)
    {
        if (!holds)
        {
            throw new FuzzException(otherwise);
        }
    }

    // Not closed with its driver, so that it can be looked at.
    private sealed class AppendedStorage(string name, SparseBytes bytes) : Storage
    {
        private readonly long _lengthBefore = bytes.Length;

        public SparseBytes Bytes => bytes;

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
            Demand(at.Value >= _lengthBefore || (at.Value == 0 && buffer.Length == Sizes.SectorBytes), $"{buffer.Length} bytes were written at {at}, the file had {_lengthBefore}");
            if (at.Value + buffer.Length > bytes.Length)
            {
                bytes.SetLength(at.Value + buffer.Length);
            }

            bytes.Write(at.Value, buffer.Span);
            return default;
        }

        public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
        {
            Demand(length == _lengthBefore, $"the length became {length}, it was {_lengthBefore}");
            bytes.SetLength(length);
            return default;
        }

        public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => default;
    }
}
