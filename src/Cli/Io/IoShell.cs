using System.Diagnostics;
using System.Globalization;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Host.Native;

namespace Platter.Cli.Io;

/// <summary>An io session: takes commands one after the other and answers each before it looks at the next.</summary>
/// <remarks>What commands say goes where qemu-io says it, word for word where scripts may compare it.</remarks>
internal sealed partial class IoShell
{
    /// <summary>What a single request may have, as with the peers.</summary>
    private const long MaxRequestBytes = 2147483136;

    private readonly Session _session;
    private readonly ImageArguments _images;
    private readonly CancellationToken _stop;
    private IoDisk? _disk;
    private bool _isOver;

    /// <summary>A session without a disk.</summary>
    /// <param name="session">Output and name.</param>
    /// <param name="images">How images are opened.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public IoShell(Session session, ImageArguments images, CancellationToken cancellationToken)
    {
        _session = session;
        _images = images;
        _stop = cancellationToken;
    }

    /// <summary>Opens a disk.</summary>
    /// <exception cref="BlockException">It cannot be opened; the message says which.</exception>
    public async ValueTask OpenDeviceAsync(IoOpening opening)
    {
        try
        {
            await OpenAsync(opening).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            // What is wrong with the words is not wrong with a file.
            var again = $"Could not open '{opening.Name}': ";
            var why = e.Kind is BlockErrorKind.InvalidRequest or BlockErrorKind.WrongFormat && e.Message.StartsWith(again, StringComparison.Ordinal)
                ? e.Message[again.Length..]
                : e.Message;
            throw new BlockException(e.Kind, $"can't open device {opening.Name}: {why}", e);
        }
    }

    private async ValueTask OpenAsync(IoOpening opening)
    {
        _disk = await IoDisk.OpenAsync(opening, _images, _stop).ConfigureAwait(false);
        if (opening is { Format: null, ReadOnly: false, Overlay: false } && _disk.Node.FormatName == "raw" && !opening.Source.HasChild("file") && !opening.Source.HasChild("image"))
        {
            _session.Warn($"the format of '{opening.Name}' was not given, and it is taken for raw: a guest can make a raw disk look like anything, so give it with -f raw");
        }
    }

    /// <summary>Runs commands given in advance.</summary>
    /// <returns>Whether all went well.</returns>
    public async ValueTask<bool> RunAsync(IEnumerable<string> commands)
    {
        var ok = true;
        foreach (var line in commands)
        {
            ok &= await RunAsync(line).ConfigureAwait(false);
            if (_isOver)
            {
                break;
            }
        }

        return ok;
    }

    /// <summary>Runs commands as they come in, until the input ends.</summary>
    /// <returns>Whether all went well.</returns>
    public async ValueTask<bool> RunAsync(TextReader input)
    {
        var ok = true;
        while (!_isOver)
        {
            // Scripts cut this prompt out of what they compare, so it is the same under either name.
            Print("qemu-io> ");
            BeIdle(true);
            var line = await Task.Run(input.ReadLine, _stop).WaitAsync(_stop).ConfigureAwait(false);
            BeIdle(false);
            if (line is null)
            {
                break;
            }

            ok &= await RunAsync(line).ConfigureAwait(false);
        }

        return ok;
    }

    /// <summary>Ends the session: what runs in the background ends, the disk is closed.</summary>
    /// <exception cref="BlockException">The last changes could not be written.</exception>
    public async ValueTask CloseAsync()
    {
        await FinishRequestsAsync().ConfigureAwait(false);
        if (_disk is { } disk)
        {
            _disk = null;
            await disk.DisposeAsync().ConfigureAwait(false);
        }
    }

    private async ValueTask<bool> RunAsync(string line)
    {
        var words = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        if (words.Length == 0)
        {
            return true;
        }

        var command = IoCommandInfo.Find(words[0]);
        try
        {
            if (command is null)
            {
                throw new IoFailure($"command \"{words[0]}\" not found", onError: true);
            }

            if (command.NeedsDisk && _disk is null)
            {
                throw new IoFailure("no file open, try 'help open'", onError: true);
            }

            CheckCount(command, words.Length - 1);
            await RunAsync(command, IoWords.Parse(command, words.AsSpan(1))).ConfigureAwait(false);
            return true;
        }
        catch (IoUsageException e)
        {
            ComplainBare(e.Message);
            Print(command!.Line);
        }
        catch (IoFailure e)
        {
            if (e.OnError)
            {
                ComplainBare(e.Message);
            }
            else if (e.Message.Length > 0)
            {
                Print($"{SafeText.Clean(e.Message)}\n");
            }
        }
        catch (BlockException e)
        {
            Complain(e.Message);
        }

        return false;
    }

    private static void CheckCount(IoCommandInfo command, int count)
    {
        if (count >= command.Least && (count <= command.Most || command.Most < 0))
        {
            return;
        }

        var expected = command.Most < 0 ? $"at least {command.Least}"
            : command.Least == command.Most ? $"{command.Least}"
            : $"between {command.Least} and {command.Most}";
        throw new IoFailure($"bad argument count {count} to {command.Name}, expected {expected} arguments", onError: true);
    }

    private ValueTask RunAsync(IoCommandInfo command, IoWords words) => command.Name switch
    {
        "read" => ReadAsync(words),
        "readv" => ReadVectorAsync(words),
        "write" => WriteAsync(words),
        "writev" => WriteVectorAsync(words),
        "aio_read" => StartReadAsync(words),
        "aio_write" => StartWriteAsync(words),
        "aio_flush" => FinishRequestsAsync(),
        "flush" => FlushAsync(),
        "discard" => DiscardAsync(words),
        "alloc" => AllocAsync(words),
        "map" => MapAsync(),
        "length" => Say($"{IoNumbers.Size(_disk!.Node.VirtualSize)}\n"),
        "truncate" => TruncateAsync(words),
        "info" => InfoAsync(),
        "open" => OpenAsync(words),
        "reopen" => ReopenAsync(words),
        "close" => CloseAsync(),
        "sleep" => SleepAsync(words),
        "help" => Help(words),
        "quit" => Quit(),
        "abort" => Abort(),
        "sigraise" => RaiseSignal(words),
        "break" => Break(words),
        "remove_break" => RemoveBreak(words),
        "resume" => Resume(words),
        "wait_break" => WaitBreakAsync(words),
        _ => throw new IoFailure($"{command.Name} is not supported", onError: true),
    };

    private async ValueTask FlushAsync()
    {
        try
        {
            await _disk!.Node.FlushAsync(_stop).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            throw new IoFailure($"flush failed: {IoErrors.Text(e)}");
        }
    }

    private async ValueTask TruncateAsync(IoWords words)
    {
        var mode = words.Get('m');
        if (mode is not (null or "off" or "metadata" or "falloc" or "full"))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"Invalid preallocation mode '{mode}'");
        }

        if (words.Operands.Count != 1)
        {
            throw new IoUsageException();
        }

        var size = IoNumbers.Parse(words.Operands[0]);
        ThrowIfReadOnly();
        var node = _disk!.Node;
        var preallocation = mode is null ? ResizePreallocation.Off : Enum.Parse<ResizePreallocation>(mode, ignoreCase: true);
        if (size % Sizes.SectorBytes == 0)
        {
            await node.ResizeAsync(size, preallocation, _stop).ConfigureAwait(false);
            return;
        }

        // A raw file may have any length for the peers; a disk is a whole number of sectors for us, and what is behind the new end zero.
        if (node.FormatName != "raw" || !Sizes.TryAlignUp(size, Sizes.SectorBytes, out var whole))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"The new size must be a multiple of {Sizes.SectorBytes}");
        }

        await node.ResizeAsync(whole, preallocation, _stop).ConfigureAwait(false);
        await node.WriteAsync(new(size), new byte[whole - size], WriteFlags.None, _stop).ConfigureAwait(false);
    }

    private async ValueTask SleepAsync(IoWords words)
    {
        var text = words.Operands.Count == 1 ? words.Operands[0] : string.Empty;
        var milliseconds = IoNumbers.ParseCInteger(text) is >= 0 and <= int.MaxValue and var value
            ? (int)value
            : throw new IoFailure($"{text} is not a valid number");
        BeIdle(true);
        await Task.Delay(milliseconds, _stop).ConfigureAwait(false);
        BeIdle(false);
    }

    private ValueTask Help(IoWords words)
    {
        if (words.Operands.Count == 0)
        {
            foreach (var command in IoCommandInfo.All)
            {
                Print(command.Line);
            }

            Print("\n'help COMMAND' tells more about one.\n");
            return default;
        }

        var wanted = IoCommandInfo.Find(words.Operands[0]) ?? throw new IoFailure($"command {words.Operands[0]} not found");
        return Say(wanted.Line + (wanted.More.Length > 0 ? $"\n{wanted.More}" : string.Empty));
    }

    private ValueTask Quit()
    {
        _isOver = true;
        return default;
    }

    // What is in memory is lost, as in a crash: nothing is closed.
    private static ValueTask Abort()
    {
        Environment.Exit(134);
        return default;
    }

    private ValueTask RaiseSignal(IoWords words)
    {
        var signal = IoNumbers.Parse(words.Operands[0]);
        if (signal > 64)
        {
            throw new IoFailure($"signal argument '{words.Operands[0]}' is too large to be a valid signal");
        }

        ProcessSignals.Raise((int)signal);
        return default;
    }

    private ValueTask Say(string text)
    {
        Print(text);
        return default;
    }

    private void ThrowIfReadOnly()
    {
        if (_disk!.Node.IsReadOnly)
        {
            throw new BlockException(BlockErrorKind.ReadOnly, "Block node is read-only");
        }
    }

    // Output first, so that where both go to one place they come in the order in which they were said.
    private void Complain(string message)
    {
        lock (_gate)
        {
            _session.Out.Flush();
            _session.Complain(message);
        }
    }

    private void ComplainBare(string message)
    {
        if (message.Length > 0)
        {
            lock (_gate)
            {
                _session.Out.Flush();
                _session.Error.Write($"{SafeText.Clean(message)}\n");
                _session.Error.Flush();
            }
        }
    }
}
