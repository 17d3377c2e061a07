namespace Platter.TestKit;

/// <summary>What a guest wrote to a disk and what it may find there after a power cut: per sector the value of the last flushed write, or any later one.</summary>
/// <remarks>Times are those of a <see cref="SimulatedDisk"/>. Thread-safe as long as requests that overlap do not run at once.</remarks>
public sealed class GuestHistory
{
    private const int SectorBytes = 512;

    private readonly Lock _gate = new();
    private readonly SimulatedDisk _disk;
    private readonly List<List<Version>> _sectors = [];
    private readonly List<(long Size, long Begun, long Durable)> _sizes = [];
    private readonly List<Version> _notDurable = [];

    /// <summary>A guest that finds a disk with <paramref name="content"/>.</summary>
    public GuestHistory(SimulatedDisk disk, byte[] content)
    {
        _disk = disk;
        _sizes.Add((content.Length, 0, 0));
        AddSectors(content.Length, content);
    }

    /// <summary>Size of the disk as the guest last made it, in bytes.</summary>
    public long Size => _sizes[^1].Size;

    /// <summary>When requests ended that demand something from then on: flushes, changes of size.</summary>
    public List<long> Demands { get; } = [];

    /// <summary>The latest value of a range, as the guest reads it as long as the power stays on.</summary>
    public byte[] Current(long offset, int length)
    {
        var result = new byte[length];
        lock (_gate)
        {
            for (var done = 0; done < length;)
            {
                var (sector, within) = Math.DivRem(offset + done, SectorBytes);
                var count = (int)Math.Min(length - done, SectorBytes - within);
                _sectors[(int)sector][^1].Value.Slice((int)within, count).CopyTo(result.AsSpan(done));
                done += count;
            }
        }

        return result;
    }

    /// <summary>A write (or, with null, a write of zeros) begins.</summary>
    /// <returns>To be handed to <see cref="EndWrite"/>.</returns>
    public object BeginWrite(long offset, int length, byte[]? bytes)
    {
        var first = offset / SectorBytes;
        var end = (offset + length + SectorBytes - 1) / SectorBytes;
        var buffer = Current(first * SectorBytes, (int)Math.Min((end - first) * SectorBytes, (_sectors.Count - first) * SectorBytes));
        var part = buffer.AsSpan((int)(offset - (first * SectorBytes)), length);
        if (bytes is null)
        {
            part.Clear();
        }
        else
        {
            bytes.AsSpan(0, length).CopyTo(part);
        }

        var versions = new List<Version>();
        lock (_gate)
        {
            var now = _disk.Tick();
            for (var sector = first; sector < end; sector++)
            {
                var version = new Version(buffer.AsMemory((int)(sector - first) * SectorBytes, SectorBytes), now);
                _sectors[(int)sector].Add(version);
                versions.Add(version);
            }
        }

        return versions;
    }

    /// <summary>A write was answered.</summary>
    /// <param name="write">From <see cref="BeginWrite"/>.</param>
    /// <param name="isDurable">It was one with forced unit access.</param>
    public void EndWrite(object write, bool isDurable = false)
    {
        lock (_gate)
        {
            var now = _disk.Tick();
            foreach (var version in (List<Version>)write)
            {
                version.Completed = now;
                version.Durable = isDurable ? now : long.MaxValue;
                if (!isDurable)
                {
                    _notDurable.Add(version);
                }
            }

            if (isDurable)
            {
                Demands.Add(now);
            }
        }
    }

    /// <summary>A discard (begun as a write of zeros) was answered: where the guest does not read zeros now, nothing may have changed.</summary>
    /// <param name="write">From <see cref="BeginWrite"/>.</param>
    /// <param name="offset">Where it was.</param>
    /// <param name="found">What the guest reads there now.</param>
    /// <returns>Null, or what is wrong.</returns>
    public string? EndDiscard(object write, long offset, ReadOnlySpan<byte> found)
    {
        var first = offset / SectorBytes;
        var versions = (List<Version>)write;
        lock (_gate)
        {
            for (var i = 0; i < versions.Count; i++)
            {
                var bytes = found.Slice(i * SectorBytes, SectorBytes);
                if (!bytes.ContainsAnyExcept((byte)0))
                {
                    continue;
                }

                var sector = _sectors[(int)first + i];
                sector.Remove(versions[i]);
                if (!sector[^1].Value.SequenceEqual(bytes))
                {
                    return $"a discard made guest offset 0x{(first + i) * SectorBytes:x} into {TestContent.Describe(bytes)}";
                }
            }
        }

        EndWrite(write);
        return null;
    }

    /// <summary>A flush (or closing the disk) begins.</summary>
    public long BeginFlush() => _disk.Tick();

    /// <summary>A flush was answered: what had been answered before it began is there for ever.</summary>
    public void EndFlush(long begun)
    {
        lock (_gate)
        {
            var now = _disk.Tick();
            foreach (var version in _notDurable)
            {
                if (version.Completed < begun)
                {
                    version.Durable = now;
                }
            }

            _notDurable.RemoveAll(v => v.Durable != long.MaxValue);
            Demands.Add(now);
        }
    }

    /// <summary>A change of size begins. What is to be cut off may read as before, as zeros or as <paramref name="below"/> has it until it is gone; what comes new reads as zeros.</summary>
    /// <param name="size">Bytes, a multiple of 512.</param>
    /// <param name="below">The backing disk.</param>
    public void BeginResize(long size, ReferenceDisk? below)
    {
        lock (_gate)
        {
            var now = _disk.Tick();
            var old = Size;
            _sizes.Add((size, now, long.MaxValue));
            AddSectors(size, []);
            for (var sector = Math.Min(size, old) / SectorBytes; sector < Math.Max(size, old) / SectorBytes; sector++)
            {
                var versions = _sectors[(int)sector];
                if (size < old)
                {
                    versions.Add(new(below?.Slice(sector * SectorBytes, SectorBytes) ?? new byte[SectorBytes], now));
                    versions.Add(new(new byte[SectorBytes], now));
                }
                else
                {
                    versions.Add(new(new byte[SectorBytes], now) { Completed = now, Durable = now });
                }
            }
        }
    }

    /// <summary>A change of size was answered: it is durable.</summary>
    public void EndResize()
    {
        lock (_gate)
        {
            var now = _disk.Tick();
            var (size, begun, _) = _sizes[^1];
            _sizes[^1] = (size, begun, now);
            Demands.Add(now);
        }
    }

    /// <summary>Compares what is found after a cut with what may be found.</summary>
    /// <returns>Null, or what is wrong.</returns>
    public string? Compare(long time, ReadOnlySpan<byte> found)
    {
        var sizes = Allowed(_sizes.Select(s => (s.Size, s.Begun, s.Durable)), time);
        if (!sizes.Contains(found.Length))
        {
            return $"the disk has {found.Length} bytes, it may have {string.Join(" or ", sizes)}";
        }

        for (var sector = 0; sector < found.Length / SectorBytes; sector++)
        {
            var bytes = found.Slice(sector * SectorBytes, SectorBytes);
            var versions = _sectors[sector];
            var allowed = false;
            for (var i = versions.Count - 1; i >= 0 && !allowed; i--)
            {
                if (versions[i].Begun <= time)
                {
                    allowed = versions[i].Value.SequenceEqual(bytes);
                    if (versions[i].Durable <= time)
                    {
                        break;
                    }
                }
            }

            if (!allowed)
            {
                var may = Allowed(versions.Select(v => (TestContent.Describe(v.Value), v.Begun, v.Durable)), time);
                return $"guest offset 0x{sector * SectorBytes:x} holds {TestContent.Describe(bytes)}; it may hold {string.Join(" or ", may)}";
            }
        }

        return null;
    }

    private static List<T> Allowed<T>(IEnumerable<(T Value, long Begun, long Durable)> versions, long time)
    {
        var result = new List<T>();
        foreach (var (value, begun, durable) in versions)
        {
            if (begun > time)
            {
                break;
            }

            if (durable <= time)
            {
                result.Clear();
            }

            result.Add(value);
        }

        return result;
    }

    private void AddSectors(long size, byte[] content)
    {
        for (var sector = _sectors.Count; sector < (size + SectorBytes - 1) / SectorBytes; sector++)
        {
            var bytes = new byte[SectorBytes];
            var from = (int)Math.Min(content.Length, (long)sector * SectorBytes);
            content.AsSpan(from, Math.Min(SectorBytes, content.Length - from)).CopyTo(bytes);
            _sectors.Add([new(bytes, 0) { Completed = 0, Durable = 0 }]);
        }
    }

    private sealed class Version(ReadOnlyMemory<byte> value, long begun)
    {
        public ReadOnlySpan<byte> Value => value.Span;

        public long Begun => begun;

        public long Completed { get; set; } = long.MaxValue;

        public long Durable { get; set; } = long.MaxValue;
    }
}
