namespace Platter.Bench.Measuring;

/// <summary>How much of the machine others took while we measured: CPU time of all processes but us and what we started, stolen time included.</summary>
/// <remarks>With busy cores, wall ratios favour whoever starts more threads; such figures are shown with their reason beside them.</remarks>
internal readonly struct MachineLoad
{
    private const double TicksPerSecond = 100;

    private readonly double _busy, _ours, _at;

    private MachineLoad(double busy, double ours, double at)
    {
        _busy = busy;
        _ours = ours;
        _at = at;
    }

    public static MachineLoad Now()
    {
        // user nice system idle iowait irq softirq steal …
        var all = File.ReadLines("/proc/stat").First().Split(' ', StringSplitOptions.RemoveEmptyEntries)[1..9].Select(double.Parse).ToArray();
        var text = File.ReadAllText("/proc/self/stat");
        var own = text[(text.LastIndexOf(')') + 2)..].Split(' ')[11..15].Sum(double.Parse); // ours and that of children that have ended
        return new MachineLoad((all.Sum() - all[3] - all[4]) / TicksPerSecond, own / TicksPerSecond, Environment.TickCount64 / 1000.0);
    }

    /// <summary>The share of all cores that others took since <paramref name="start"/>, 0 to 1.</summary>
    public double OthersSince(MachineLoad start)
    {
        var capacity = (_at - start._at) * Environment.ProcessorCount;
        return capacity <= 0 ? 0 : Math.Clamp((_busy - start._busy - (_ours - start._ours)) / capacity, 0, 1);
    }
}
