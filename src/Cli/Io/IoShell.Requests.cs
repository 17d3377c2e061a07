using System.Diagnostics;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Units;

namespace Platter.Cli.Io;

// Requests: each is prepared from its words, run at once or in the background, and reported.
internal sealed partial class IoShell
{
    private const byte DefaultPattern = 0xcd;

    private readonly Lock _gate = new();
    private readonly List<Task> _running = [];
    private readonly List<string> _unsaid = [];
    private bool _isIdle;

    /// <summary>How a request reports itself.</summary>
    private readonly record struct Reporting(bool Quiet, bool ForPrograms)
    {
        public static Reporting Of(IoWords words) => new(words.Has('q'), words.Has('C'));

        public string Text(string done, TimeSpan time, long offset, long wanted) =>
            Quiet ? string.Empty : IoNumbers.Report(done, time, offset, wanted, wanted, ForPrograms);
    }

    private ValueTask ReadAsync(IoWords words)
    {
        var pattern = words.Get('P') is { } byteText ? IoNumbers.ParsePattern(byteText) : (byte?)null;
        var checkedLength = words.Get('l') is { } lengthText ? IoNumbers.Parse(lengthText) : (long?)null;
        var checkedStart = words.Get('s') is { } startText ? IoNumbers.Parse(startText) : 0;
        if (words.Operands.Count != 2)
        {
            throw new IoUsageException();
        }

        var offset = IoNumbers.Parse(words.Operands[0]);
        var length = ParseLength(words.Operands[1]);
        if (pattern is null && (words.Has('s') || words.Has('l')))
        {
            throw new IoUsageException();
        }

        var patternLength = checkedLength ?? length - checkedStart;
        if (patternLength < 0 || checkedStart + patternLength > length)
        {
            throw new IoFailure("pattern verification range exceeds end of read data");
        }

        if (words.Has('b'))
        {
            ThrowIfNoSectors(offset, length);
            throw new IoFailure($"read failed: {IoErrors.Text(new(BlockErrorKind.Unsupported, string.Empty))}");
        }

        return ReadAndReportAsync(words, "read", offset, length, pattern, checkedStart, patternLength);
    }

    private ValueTask ReadVectorAsync(IoWords words)
    {
        var (pattern, offset, length) = Vector(words);
        return ReadAndReportAsync(words, "readv", offset, length, words.Has('P') ? pattern : null, 0, length);
    }

    private async ValueTask ReadAndReportAsync(IoWords words, string name, long offset, long length, byte? pattern, long checkedStart, long checkedLength)
    {
        var buffer = new byte[length];
        var clock = Stopwatch.StartNew();
        await AttemptAsync(name, () => _disk!.ReadAsync(new(offset), buffer, _stop)).ConfigureAwait(false);
        var time = clock.Elapsed;
        var isAsWanted = Say(words, buffer, offset, time, pattern, checkedStart, checkedLength, Print);
        if (!isAsWanted)
        {
            throw new IoFailure(string.Empty);
        }
    }

    // Whether the data are what the pattern says; tells about them.
    private static bool Say(
        IoWords words, byte[] data, long offset, TimeSpan time, byte? pattern, long checkedStart, long checkedLength, Action<string> print)
    {
        var isAsWanted = pattern is not { } wanted || !data.AsSpan((int)checkedStart, (int)checkedLength).ContainsAnyExcept(wanted);
        if (!isAsWanted)
        {
            print($"Pattern verification failed at offset {offset + checkedStart}, {checkedLength} bytes\n");
        }

        var reporting = Reporting.Of(words);
        if (words.Has('v') && !reporting.Quiet)
        {
            var dump = new StringWriter();
            IoNumbers.Dump(dump, data, offset);
            print(dump.ToString());
        }

        print(reporting.Text("read", time, offset, data.Length));
        return isAsWanted;
    }

    private async ValueTask WriteAsync(IoWords words)
    {
        var pattern = words.Get('P') is { } text ? IoNumbers.ParsePattern(text) : DefaultPattern;
        var (toState, compressed, zeros) = (words.Has('b'), words.Has('c'), words.Has('z'));
        if (toState && zeros)
        {
            throw new IoFailure("-b and -z cannot be specified at the same time");
        }

        if (words.Has('f') && (toState || compressed))
        {
            throw new IoFailure("-f and -b or -c cannot be specified at the same time");
        }

        if (words.Has('n') && !zeros)
        {
            throw new IoFailure("-n requires -z to be specified");
        }

        ThrowIfUnmapsNoZeros(words);
        if ((zeros ? 1 : 0) + (words.Has('P') ? 1 : 0) + (words.Has('s') ? 1 : 0) > 1)
        {
            throw new IoFailure("Only one of -z, -P, and -s can be specified at the same time");
        }

        if (words.Operands.Count != 2)
        {
            throw new IoUsageException();
        }

        var offset = IoNumbers.Parse(words.Operands[0]);
        var length = IoNumbers.Parse(words.Operands[1]);
        if (length > MaxRequestBytes && !(zeros && words.Has('n')))
        {
            throw new IoFailure($"length cannot exceed {MaxRequestBytes}{(zeros ? " without -n" : string.Empty)}, given {words.Operands[1]}");
        }

        if (toState || compressed)
        {
            ThrowIfNoSectors(offset, length);
        }

        var data = zeros ? [] : words.Get('s') is { } file ? FromFile(file, length) : Filled(pattern, length);
        ThrowIfReadOnly();
        var flags = Flags(words) | (words.Has('n') ? WriteFlags.NoFallback : WriteFlags.None);
        var clock = Stopwatch.StartNew();
        await AttemptAsync(
            "write",
            () => toState ? throw new BlockException(BlockErrorKind.Unsupported, string.Empty)
                : zeros ? _disk!.Node.WriteZeroesAsync(new(offset), length, flags, _stop)
                : compressed ? WriteCompressedAsync(offset, data)
                : _disk!.Node.WriteAsync(new(offset), data, flags, _stop)).ConfigureAwait(false);
        Print(Reporting.Of(words).Text("wrote", clock.Elapsed, offset, length));
    }

    private async ValueTask WriteVectorAsync(IoWords words)
    {
        var (pattern, offset, length) = Vector(words);
        ThrowIfReadOnly();
        var data = Filled(pattern, length);
        var clock = Stopwatch.StartNew();
        await AttemptAsync("writev", () => _disk!.Node.WriteAsync(new(offset), data, Flags(words), _stop)).ConfigureAwait(false);
        Print(Reporting.Of(words).Text("wrote", clock.Elapsed, offset, length));
    }

    // Cluster by cluster, as the format stores them.
    private async ValueTask WriteCompressedAsync(long offset, byte[] data)
    {
        var node = _disk!.Node;
        var cluster = (await node.GetInfoAsync(_stop).ConfigureAwait(false)).ClusterSize
            ?? throw new BlockException(BlockErrorKind.Unsupported, "this format does not compress");
        var end = offset + data.Length;
        if (end <= node.VirtualSize && (offset % cluster != 0 || (end % cluster != 0 && end != node.VirtualSize)))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "compressed writes are of whole clusters") { HostErrorNumber = IoErrors.EINVAL };
        }

        for (var at = 0; at < data.Length; at += (int)cluster)
        {
            await node.WriteCompressedAsync(new(offset + at), data.AsMemory(at, (int)Math.Min(cluster, data.Length - at)), _stop).ConfigureAwait(false);
        }
    }

    private async ValueTask DiscardAsync(IoWords words)
    {
        if (words.Operands.Count != 2)
        {
            throw new IoUsageException();
        }

        var offset = IoNumbers.Parse(words.Operands[0]);
        var length = ParseLength(words.Operands[1]);
        ThrowIfReadOnly();
        var clock = Stopwatch.StartNew();
        await AttemptAsync("discard", () => _disk!.Opening.IgnoresDiscards ? default : _disk.Node.DiscardAsync(new(offset), length, _stop)).ConfigureAwait(false);
        Print(Reporting.Of(words).Text("discard", clock.Elapsed, offset, length));
    }

    private ValueTask StartReadAsync(IoWords words)
    {
        var (pattern, offset, length) = Vector(words);
        if (words.Has('i'))
        {
            return Say("injecting invalid read request\n");
        }

        return StartAsync("readv", async () =>
        {
            var buffer = new byte[length];
            var clock = Stopwatch.StartNew();
            await _disk!.ReadAsync(new(offset), buffer, _stop).ConfigureAwait(false);
            var said = new StringWriter();
            _ = Say(words, buffer, offset, clock.Elapsed, words.Has('P') ? pattern : null, 0, length, said.Write);
            return said.ToString();
        });
    }

    private ValueTask StartWriteAsync(IoWords words)
    {
        var zeros = words.Has('z');
        if (zeros && words.Operands.Count != 2)
        {
            throw new IoFailure("-z supports only a single length parameter");
        }

        ThrowIfUnmapsNoZeros(words);
        if (zeros && words.Has('P'))
        {
            throw new IoFailure("-z and -P cannot be specified at the same time");
        }

        var (pattern, offset, length) = Vector(words);
        if (words.Has('i'))
        {
            return Say("injecting invalid write request\n");
        }

        ThrowIfReadOnly();
        var data = zeros ? [] : Filled(pattern, length);
        return StartAsync("aio_write", async () =>
        {
            var clock = Stopwatch.StartNew();
            if (zeros)
            {
                await _disk!.Node.WriteZeroesAsync(new(offset), length, Flags(words), _stop).ConfigureAwait(false);
            }
            else
            {
                await _disk!.Node.WriteAsync(new(offset), data, Flags(words), _stop).ConfigureAwait(false);
            }

            return Reporting.Of(words).Text("wrote", clock.Elapsed, offset, length);
        });
    }

    // Copies on read must not meet writes of the same clusters, so nothing runs beside them.
    private async ValueTask StartAsync(string name, Func<ValueTask<string>> request)
    {
        _running.Add(Task.Run(async () =>
        {
            string said;
            try
            {
                said = await request().ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                said = $"{name} failed: {IoErrors.Text(e)}\n";
            }

            lock (_gate)
            {
                if (_isIdle)
                {
                    Print(said);
                }
                else
                {
                    _unsaid.Add(said);
                }
            }
        }));
        if (_disk!.Opening.CopiesOnRead)
        {
            await FinishRequestsAsync().ConfigureAwait(false);
        }
    }

    private async ValueTask FinishRequestsAsync()
    {
        await Task.WhenAll(_running).ConfigureAwait(false);
        _running.Clear();
        BeIdle(true);
        BeIdle(false);
    }

    // While nothing else is printed, requests that end in the background say so at once.
    private void BeIdle(bool idle)
    {
        lock (_gate)
        {
            _isIdle = idle;
            if (idle)
            {
                Print(string.Concat(_unsaid));
                _unsaid.Clear();
            }
        }
    }

    private async ValueTask AttemptAsync(string name, Func<ValueTask> request)
    {
        try
        {
            await request().ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            if (IoErrors.NeedsDetail(e))
            {
                Complain(e.Message);
            }

            throw new IoFailure($"{name} failed: {IoErrors.Text(e)}");
        }
    }

    private WriteFlags Flags(IoWords words) =>
        (words.Has('f') || _disk!.Opening.WritesThrough ? WriteFlags.ForceUnitAccess : WriteFlags.None)
        | (words.Has('u') && !_disk!.Opening.IgnoresDiscards ? WriteFlags.MayUnmap : WriteFlags.None);

    private static (byte Pattern, long Offset, long Length) Vector(IoWords words)
    {
        var pattern = words.Get('P') is { } text ? IoNumbers.ParsePattern(text) : DefaultPattern;
        if (words.Operands.Count < 2)
        {
            throw new IoUsageException();
        }

        var offset = IoNumbers.Parse(words.Operands[0]);
        var length = 0L;
        for (var i = 1; i < words.Operands.Count; i++)
        {
            var part = IoNumbers.Parse(words.Operands[i]);
            if (part > MaxRequestBytes)
            {
                throw new IoFailure($"Argument '{words.Operands[i]}' exceeds maximum size {MaxRequestBytes}");
            }

            length += part;
            if (length > MaxRequestBytes)
            {
                throw new IoFailure($"The total number of bytes exceed the maximum size {MaxRequestBytes}");
            }
        }

        return (pattern, offset, length);
    }

    private static long ParseLength(string text) => IoNumbers.Parse(text) is <= MaxRequestBytes and var length
        ? length
        : throw new IoFailure($"length cannot exceed {MaxRequestBytes}, given {text}");

    private static void ThrowIfNoSectors(long offset, long length)
    {
        if (offset % Sizes.SectorBytes != 0)
        {
            throw new IoFailure($"{offset} is not a sector-aligned value for 'offset'");
        }

        if (length % Sizes.SectorBytes != 0)
        {
            throw new IoFailure($"{length} is not a sector-aligned value for 'count'");
        }
    }

    private static void ThrowIfUnmapsNoZeros(IoWords words)
    {
        if (words.Has('u') && !words.Has('z'))
        {
            throw new IoFailure("-u requires -z to be specified");
        }
    }

    private static byte[] Filled(byte pattern, long length)
    {
        var data = new byte[length];
        data.AsSpan().Fill(pattern);
        return data;
    }

    private static byte[] FromFile(string path, long length)
    {
        var data = new byte[length];
        var have = 0;
        try
        {
            using var file = File.OpenRead(path);
            for (int read; have < data.Length && (read = file.Read(data, have, data.Length - have)) > 0;)
            {
                have += read;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            var why = e is FileNotFoundException or DirectoryNotFoundException ? "No such file or directory"
                : e is UnauthorizedAccessException ? "Permission denied"
                : e.Message;
            throw new IoFailure($"{path}: {why}", onError: true);
        }

        if (have == 0 && length > 0)
        {
            throw new IoFailure($"{path}: file is empty", onError: true);
        }

        for (var at = have; at < data.Length; at += have)
        {
            data.AsSpan(0, Math.Min(have, data.Length - at)).CopyTo(data.AsSpan(at));
        }

        return data;
    }

    private void Print(string text)
    {
        lock (_gate)
        {
            _session.Out.Write(text);
            _session.Out.Flush();
        }
    }
}
