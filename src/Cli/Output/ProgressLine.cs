using System.Diagnostics;
using System.Globalization;
using Platter.Cli.Options;
using Platter.Operations.Copy;

namespace Platter.Cli.Output;

/// <summary>Shows how far a long command is: as the peers print it for programs that read along, with rate and time left for people.</summary>
/// <remarks>May be told from any thread, often; it prints seldom.</remarks>
internal sealed class ProgressLine : IProgress<double>, IProgress<CopyProgress>, IDisposable
{
    private static readonly TimeSpan s_refresh = TimeSpan.FromMilliseconds(100);

    private readonly TextWriter _writer;
    private readonly bool _forPeople;
    private readonly Lock _gate = new();
    private readonly long _start = Stopwatch.GetTimestamp();
    private long _printedAt;
    private double _printed = -1;
    private int _nextHundredth;
    private bool _finished;

    private ProgressLine(TextWriter writer, bool forPeople)
    {
        _writer = writer;
        _forPeople = forPeople;
    }

    /// <summary>Starts a line, or returns null when none is wanted.</summary>
    public static ProgressLine? Start(Session session, bool wanted)
    {
        if (!wanted)
        {
            return null;
        }

        var line = new ProgressLine(session.Out, session.OutputIsTerminal);
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
            if (_forPeople && !_finished)
            {
                _finished = true;
                _writer.Write("\r\x1b[K");
            }
        }
    }

    /// <summary>The work is done: shows 100 %.</summary>
    public void Complete(CopyProgress total = default) => Print(1, total);

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_gate)
        {
            if (!_finished)
            {
                _finished = true;
                _writer.Write('\n');
                _writer.Flush();
            }
        }
    }

    private void Told(double fraction, CopyProgress copy)
    {
        // Without a lock: most calls end here.
        if ((int)(fraction * 100) < Volatile.Read(ref _nextHundredth) && !_forPeople)
        {
            return;
        }

        if (_forPeople && Stopwatch.GetElapsedTime(Volatile.Read(ref _printedAt)) < s_refresh)
        {
            return;
        }

        Print(fraction, copy);
    }

    private void Print(double fraction, CopyProgress copy)
    {
        lock (_gate)
        {
            if (_finished || fraction < _printed)
            {
                return;
            }

            _printed = fraction;
            _printedAt = Stopwatch.GetTimestamp();
            _nextHundredth = (int)(fraction * 100) + 1;
            _writer.Write(_forPeople
                ? $"\r{ForPeople(fraction, copy)}\x1b[K"
                : string.Create(CultureInfo.InvariantCulture, $"    ({fraction * 100:0.00}/100%)\r"));
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
