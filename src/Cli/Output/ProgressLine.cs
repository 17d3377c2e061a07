using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Platter.Cli.Options;
using Platter.Operations.Copy;

namespace Platter.Cli.Output;

/// <summary>Shows how far a long command is: as the peers print it for programs that read along, with rate and time left for people, and
/// without <c>-p</c> on standard error when SIGUSR1 asks.</summary>
/// <remarks>May be told from any thread, often; it prints seldom.</remarks>
internal sealed class ProgressLine : IProgress<double>, IProgress<CopyProgress>, IDisposable
{
    private static readonly TimeSpan s_refresh = TimeSpan.FromMilliseconds(100);

    private readonly TextWriter _writer;
    private readonly TextWriter _results;
    private readonly System.Text.StringBuilder _held = new();
    private readonly Style _style;
    private readonly PosixSignalRegistration? _asked;
    private readonly Lock _gate = new();
    private readonly long _start = Stopwatch.GetTimestamp();
    private long _printedAt;
    private double _printed = -1;
    private double _latest;
    private string _shown = string.Empty;
    private int _nextHundredth;
    private bool _finished;

    private ProgressLine(TextWriter writer, TextWriter results, Style style)
    {
        _writer = writer;
        _results = results;
        _style = style;

        // Under the peers' names scripts send this signal; unhandled, it would end the process.
        if (style == Style.WhenAsked && (OperatingSystem.IsLinux() || OperatingSystem.IsMacOS()))
        {
            _asked = PosixSignalRegistration.Create((PosixSignal)(OperatingSystem.IsLinux() ? 10 : 30), Tell);
        }
    }

    private enum Style
    {
        ForPrograms,
        ForPeople,
        WhenAsked,
    }

    /// <summary>Starts to show progress.</summary>
    /// <param name="session">Where to, and whether a person looks.</param>
    /// <param name="wanted">Whether <c>-p</c> was given.</param>
    public static ProgressLine Start(Session session, bool wanted)
    {
        var line = wanted
            ? new ProgressLine(session.Out, session.Out, session.OutputIsTerminal ? Style.ForPeople : Style.ForPrograms)
            : new ProgressLine(session.Error, session.Out, Style.WhenAsked);
        line.Print(0, default);
        return line;
    }

    /// <inheritdoc/>
    public void Report(double value) => Told(value, default);

    /// <inheritdoc/>
    public void Report(CopyProgress value) => Told(value.Total == 0 ? 1 : (double)value.Done / value.Total, value);

    /// <summary>Makes room for the result: on a terminal the line goes, for programs it stays as the peers leave it.</summary>
    public void GiveWay()
    {
        lock (_gate)
        {
            if (_style == Style.ForPeople && !_finished)
            {
                _finished = true;
                _writer.Write("\r\x1b[K");
            }
        }
    }

    /// <summary>Writes a line of results to standard output, never into the progress: on a terminal above it, for programs that read along after its end.</summary>
    /// <param name="line">Without control characters and without a line break.</param>
    public void WriteResult(string line)
    {
        lock (_gate)
        {
            if (_style == Style.ForPrograms && !_finished)
            {
                _held.Append(line).Append('\n');
                return;
            }

            _results.Write(_style == Style.ForPeople && !_finished ? $"\r\x1b[K{line}\n{_shown}" : $"{line}\n");
            _results.Flush();
        }
    }

    /// <summary>The work is done: shows 100 %.</summary>
    public void Complete(CopyProgress total = default) => Print(1, total);

    /// <inheritdoc/>
    public void Dispose()
    {
        _asked?.Dispose();
        lock (_gate)
        {
            if (!_finished && _style != Style.WhenAsked)
            {
                _writer.Write($"\n{_held}");
                _writer.Flush();
            }

            _finished = true;
        }
    }

    private static string ForPrograms(double fraction) => string.Create(CultureInfo.InvariantCulture, $"    ({Math.Round(fraction * 100, 2):0.00}/100%)");

    private void Told(double fraction, CopyProgress copy)
    {
        // Without the lock: nearly all calls end here.
        Volatile.Write(ref _latest, fraction);
        var isSoon = _style switch
        {
            Style.ForPeople => Stopwatch.GetElapsedTime(Volatile.Read(ref _printedAt)) < s_refresh,
            Style.ForPrograms => (int)(fraction * 100) < Volatile.Read(ref _nextHundredth),
            _ => true,
        };
        if (!isSoon)
        {
            Print(fraction, copy);
        }
    }

    private void Print(double fraction, CopyProgress copy)
    {
        lock (_gate)
        {
            if (_finished || fraction < _printed || _style == Style.WhenAsked)
            {
                return;
            }

            _printed = fraction;
            _printedAt = Stopwatch.GetTimestamp();
            _nextHundredth = (int)(fraction * 100) + 1;
            _shown = _style == Style.ForPeople ? ForPeople(fraction, copy) : ForPrograms(fraction);
            _writer.Write(_style == Style.ForPeople ? $"\r{_shown}\x1b[K" : $"{_shown}\r");
            _writer.Flush();
        }
    }

    private void Tell(PosixSignalContext context)
    {
        context.Cancel = true;
        lock (_gate)
        {
            _writer.Write($"{ForPrograms(Volatile.Read(ref _latest))}\n");
            _writer.Flush();
        }
    }

    private string ForPeople(double fraction, CopyProgress copy)
    {
        var elapsed = Stopwatch.GetElapsedTime(_start);
        var text = string.Create(CultureInfo.InvariantCulture, $"{fraction * 100,6:0.0} %");
        if (copy.Total > 0)
        {
            text += $"  {SizeText.Format(copy.Done)} of {SizeText.Format(copy.Total)}";
            if (elapsed.TotalSeconds > 0.5)
            {
                text += $"  {SizeText.Format((long)(copy.Done / elapsed.TotalSeconds))}/s";
            }
        }

        if (fraction >= 1)
        {
            return $"{text}  in {Clock(elapsed)}";
        }

        // An estimate from the first moments would only jump about.
        return fraction > 0.005 && elapsed.TotalSeconds > 1 ? $"{text}  {Clock(elapsed * ((1 - fraction) / fraction))} left" : text;
    }

    private static string Clock(TimeSpan time) => time.TotalHours >= 1
        ? string.Create(CultureInfo.InvariantCulture, $"{(long)time.TotalHours}:{time.Minutes:00}:{time.Seconds:00}")
        : string.Create(CultureInfo.InvariantCulture, $"{time.Minutes}:{time.Seconds:00}");
}
