using System.Globalization;
using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Faults;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Cli.Io;

// What an image is and has; opening and closing.
internal sealed partial class IoShell
{
    private async ValueTask AllocAsync(IoWords words)
    {
        var offset = IoNumbers.Parse(words.Operands[0]);
        var wanted = words.Operands.Count > 1 ? IoNumbers.Parse(words.Operands[1]) : Sizes.SectorBytes;
        var node = _disk!.Node;
        var end = offset + Math.Clamp(node.VirtualSize - offset, 0, wanted);
        var allocated = 0L;
        for (var at = offset; at < end;)
        {
            var (isAllocated, length) = await OwnAsync(node, at, end).ConfigureAwait(false);
            allocated += isAllocated ? length : 0;
            at += length;
        }

        Print(string.Create(CultureInfo.InvariantCulture, $"{allocated}/{end - offset} bytes allocated at offset {IoNumbers.Size(offset)}\n"));
    }

    private async ValueTask MapAsync()
    {
        var node = _disk!.Node;
        for (var at = 0L; at < node.VirtualSize;)
        {
            var (isAllocated, length) = await OwnAsync(node, at, node.VirtualSize).ConfigureAwait(false);
            Print(string.Create(
                CultureInfo.InvariantCulture,
                $"{IoNumbers.Size(length)} (0x{length:x}) bytes {(isAllocated ? "    allocated" : "not allocated")} at offset {IoNumbers.Size(at)} (0x{at:x})\n"));
            at += length;
        }
    }

    // Whether the image itself says something about a place, and for how many bytes it goes on so.
    private async ValueTask<(bool IsOwn, long Length)> OwnAsync(BlockNode node, long start, long end)
    {
        bool? isOwn = null;
        var at = start;
        while (at < end)
        {
            var extent = await node.MapAsync(new(at), end - at, MapDetail.Metadata, _stop).ConfigureAwait(false);
            var own = extent is { Depth: 0, Kind: not ExtentKind.Unallocated };
            if (own != (isOwn ??= own))
            {
                break;
            }

            at = extent.End.Value;
        }

        return (isOwn ?? false, at - start);
    }

    private async ValueTask InfoAsync()
    {
        var info = await _disk!.Node.GetInfoAsync(_stop).ConfigureAwait(false);
        var text = new StringWriter();
        text.Write($"format name: {info.Format}\n");
        text.Write($"cluster size: {IoNumbers.Size(info.ClusterSize ?? 0)}\n");
        text.Write($"vm state offset: {IoNumbers.Size(info.VmStateOffset)}\n");
        InfoText.WriteFormatSpecific(text, info);
        Print(text.ToString());
    }

    private async ValueTask OpenAsync(IoWords words)
    {
        if (words.Operands.Count > 1)
        {
            throw new IoUsageException();
        }

        var path = words.Operands.Count == 1 ? words.Operands[0] : null;
        var options = words.Get('o') is { } text ? NodeOptions.ParseKeyValues(text) : null;
        if (path is null && options is null)
        {
            throw new IoUsageException();
        }

        var opening = IoSettings.Apply(
            new()
            {
                Name = path ?? words.Get('o')!,
                Source = new NodeOptions(),
                ReadOnly = words.Has('r'),
                Overlay = words.Has('s'),
                CopiesOnRead = words.Has('C'),
                ForceShare = words.Has('U'),
            },
            words.Has('n') ? "none" : words.Get('t'), words.Get('d'), words.Get('i'));
        if (_disk is not null)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "file open already, try 'help close'");
        }

        await OpenDeviceAsync(opening with { Source = Combine(path, options) }).ConfigureAwait(false);
    }

    // The path is the storage, the options are the image's.
    private static NodeOptions Combine(string? path, NodeOptions? options)
    {
        if (path is null)
        {
            return options!;
        }

        var storage = DiskName.Parse(path);
        if (options is null)
        {
            return storage;
        }

        options.SetChild("file", storage);
        return options;
    }

    private async ValueTask ReopenAsync(IoWords words)
    {
        if (words.Operands.Count > 0)
        {
            throw new IoUsageException();
        }

        if (words.Has('r') && words.Has('w'))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "Only one -r/-w option may be given");
        }

        var old = _disk!.Opening;
        var opening = IoSettings.Apply(old, words.Get('c'), null, null) with { ReadOnly = words.Has('r') || (old.ReadOnly && !words.Has('w')) };
        foreach (var (key, value) in NodeOptions.SplitKeyValues(words.Get('o') ?? string.Empty))
        {
            switch (key)
            {
                case "" or "lazy-refcounts" or "overlap-check" or "discard" or "detect-zeroes" or "cache.direct" or "cache.no-flush":
                    // Without effect on us.
                    break;
                case "read-only" when words.Has('r') || words.Has('w'):
                    throw new BlockException(BlockErrorKind.InvalidRequest, "Cannot set both -r/-w and 'read-only'");
                case "read-only":
                    opening = opening with { ReadOnly = value is "on" or "true" or "yes" };
                    break;
                default:
                    throw new BlockException(BlockErrorKind.InvalidRequest, $"Cannot change the option '{SafeText.Clean(key, 64)}'");
            }
        }

        if (opening == old)
        {
            await _disk.Node.FlushAsync(_stop).ConfigureAwait(false);
            return;
        }

        await CloseAsync().ConfigureAwait(false);
        try
        {
            await OpenAsync(opening).ConfigureAwait(false);
        }
        catch (BlockException)
        {
            await OpenAsync(old).ConfigureAwait(false);
            throw;
        }
    }

    private FaultStorage? Faults
    {
        get
        {
            foreach (var storage in _disk!.Node.Storages)
            {
                if (storage is FaultStorage faults)
                {
                    faults.Breakpoints.Tell = text => Print($"blkdebug: {text}\n");
                    return faults;
                }
            }

            return null;
        }
    }

    private ValueTask Break(IoWords words)
    {
        const string Failed = "Could not set breakpoint: ";
        var faults = Faults ?? throw new IoFailure($"{Failed}Operation not supported");
        try
        {
            faults.Breakpoints.Set(FaultOptions.Event(words.Operands[0]), words.Operands[1]);
        }
        catch (BlockException)
        {
            throw new IoFailure($"{Failed}No such file or directory");
        }

        return default;
    }

    private ValueTask RemoveBreak(IoWords words)
    {
        var failed = $"Could not remove breakpoint {words.Operands[0]}: ";
        var faults = Faults ?? throw new IoFailure($"{failed}Operation not supported");
        return faults.Breakpoints.Remove(words.Operands[0]) ? default : throw new IoFailure($"{failed}No such file or directory");
    }

    private ValueTask Resume(IoWords words)
    {
        const string Failed = "Could not resume request: ";
        var faults = Faults ?? throw new IoFailure($"{Failed}Operation not supported");
        return faults.Breakpoints.Resume(words.Operands[0]) ? default : throw new IoFailure($"{Failed}No such file or directory");
    }

    private ValueTask WaitBreakAsync(IoWords words) =>
        Faults?.Breakpoints.WaitAsync(words.Operands[0], _stop) ?? throw new IoFailure("Could not wait for a breakpoint: Operation not supported");
}
