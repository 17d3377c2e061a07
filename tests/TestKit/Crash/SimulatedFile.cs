namespace Platter.TestKit;

/// <summary>A file of a <see cref="SimulatedDisk"/>: what it held at first, every change, every flush, and what it holds now.</summary>
public sealed class SimulatedFile
{
    private readonly Lock _gate = new();
    private readonly List<SimulatedWrite> _writes = [];
    private readonly List<SimulatedFlush> _flushes = [];
    private readonly CutFile _content;

    internal SimulatedFile(SimulatedDisk disk, string name, byte[] bytes)
    {
        Disk = disk;
        Name = name;
        Initial = [.. bytes];
        _content = new CutFile(name, bytes, bytes.Length);
    }

    /// <summary>The disk it is on.</summary>
    public SimulatedDisk Disk { get; }

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>What it held before anything happened; not to be changed.</summary>
    public byte[] Initial { get; }

    /// <summary>Bytes up to its end now.</summary>
    public long Length
    {
        get
        {
            lock (_gate)
            {
                return _content.Length;
            }
        }
    }

    /// <summary>Where the disk is full: nothing can be written from there on.</summary>
    public long Room { get; set; } = long.MaxValue;

    /// <summary>Every change so far, in the order in which they were begun.</summary>
    public IReadOnlyList<SimulatedWrite> Writes => _writes;

    /// <summary>Every flush so far, in the order in which they ended.</summary>
    public IReadOnlyList<SimulatedFlush> Flushes => _flushes;

    /// <summary>A storage over the file; any number of them.</summary>
    /// <param name="writable">For writing too.</param>
    /// <param name="name">How messages name it; null for <see cref="Name"/>.</param>
    public SimulatedStorage Open(bool writable, string? name = null) => new(this, writable, name ?? Name);

    internal int Read(long at, Span<byte> buffer)
    {
        lock (_gate)
        {
            return _content.Read(at, buffer);
        }
    }

    internal SimulatedWrite Begin(
        long at, byte[]? bytes, long length, bool setsLength, IReadOnlyList<(string Name, SimulatedFile? File)>? entries = null)
    {
        lock (_gate)
        {
            SimulatedWrite? write = null;
            Disk.Tick(now => write = new SimulatedWrite(_writes.Count, at, bytes, length, setsLength, now) { Entries = entries });
            _writes.Add(write!);
            _content.Apply(write!);
            return write!;
        }
    }

    internal void Complete(SimulatedWrite write) => Disk.Tick(now => write.Completed = now);

    internal long BeginFlush() => Disk.Tick();

    internal void CompleteFlush(long begun)
    {
        lock (_gate)
        {
            Disk.Tick(now => _flushes.Add(new SimulatedFlush(this, begun, now)));
        }
    }
}

/// <summary>A flush of one file: everything that was completed before it began is durable once it has ended.</summary>
/// <param name="File">The file.</param>
/// <param name="Begun">When it began.</param>
/// <param name="Ended">When it ended.</param>
public sealed record SimulatedFlush(SimulatedFile File, long Begun, long Ended);
