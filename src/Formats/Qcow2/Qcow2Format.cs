using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Qcow2.Create;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2;

/// <summary>The qcow2 format, versions 2 and 3.</summary>
public sealed class Qcow2Format : ImageFormat
{
    /// <inheritdoc/>
    public override string Name => "qcow2";

    /// <inheritdoc/>
    /// <remarks>Version 1 is another format ("qcow"), version 0 none at all.</remarks>
    public override int Probe(ReadOnlySpan<byte> head) =>
        head.Length >= 8 && BinaryPrimitives.ReadUInt32BigEndian(head) == Qcow2Header.Magic && BinaryPrimitives.ReadUInt32BigEndian(head[4..]) >= 2
            ? 100
            : 0;

    /// <inheritdoc/>
    /// <remarks>
    /// Options: <c>encrypt.key-secret</c> (id of the password of an encrypted image), <c>encrypt.format</c> (must agree with the image),
    /// <c>data-file.*</c> (options of the storage that holds the guest data, instead of the name in the image).
    /// </remarks>
    public override async ValueTask<ImageDriver> OpenAsync(
        Storage storage, NodeOptions options, OpenContext context, CancellationToken cancellationToken = default) =>
        await Qcow2Opening.OpenAsync(storage, options, context, cancellationToken).ConfigureAwait(false);

    /// <inheritdoc/>
    public override CreateOptionList CreateOptions => Qcow2CreateSettings.Options;

    /// <inheritdoc/>
    public override CreateOptionList AmendOptions => Qcow2AmendSettings.Options;

    /// <inheritdoc/>
    public override bool SupportsBackingFile => true;

    /// <inheritdoc/>
    public override void CheckCreate(long virtualSize, NodeOptions createOptions, CreateContext context) =>
        Qcow2Creator.Check(virtualSize, createOptions, context);

    /// <inheritdoc/>
    public override ValueTask CreateAsync(
        Storage storage, long virtualSize, NodeOptions createOptions, CreateContext context, CancellationToken cancellationToken = default) =>
        Qcow2Creator.RunAsync(storage, virtualSize, createOptions, context, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<MeasureResult> MeasureAsync(
        BlockNode? source, long virtualSize, NodeOptions createOptions, CancellationToken cancellationToken = default)
    {
        // The largest L1 table there may be maps 2 EiB.
        if (virtualSize < 0 || virtualSize > 1L << 61)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"a qcow2 disk cannot have {virtualSize} bytes");
        }

        return Qcow2Measure.RunAsync(source, virtualSize, Qcow2CreateSettings.Parse(createOptions), cancellationToken);
    }
}
