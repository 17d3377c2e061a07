namespace Platter.Core.Metadata;

/// <summary>A bounded cache of parsed tables (L2 slices, BAT pages, refcount blocks), shared by all images of a graph.</summary>
/// <remarks>
/// Values are immutable once added; whoever holds one may go on using it after it was dropped. Replacement is CLOCK (second chance) in
/// shards, so that readers of different tables rarely meet. Thread-safe.
/// </remarks>
public sealed class MetadataCache
{
    /// <summary>Bytes kept unless the caller says otherwise: maps 256 GiB of qcow2 with 64 KiB clusters.</summary>
    public const long DefaultBudgetBytes = 32L << 20;

    private const int ShardCount = 16;

    private readonly Shard[] _shards = new Shard[ShardCount];
    private static int s_owners;

    /// <summary>Makes a cache that holds about <paramref name="budgetBytes"/> of values.</summary>
    public MetadataCache(long budgetBytes)
    {
        for (var i = 0; i < ShardCount; i++)
        {
            _shards[i] = new Shard(Math.Max(1, budgetBytes / ShardCount));
        }
    }

    /// <summary>A new number for an image, so that its keys do not meet those of others.</summary>
    public static int NewOwner() => Interlocked.Increment(ref s_owners);

    /// <summary>Finds a value.</summary>
    /// <param name="owner">From <see cref="NewOwner"/>.</param>
    /// <param name="key">Usually the host offset of the table.</param>
    /// <param name="value">What was added.</param>
    public bool TryGet<T>(int owner, long key, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out T? value)
        where T : class
    {
        value = ShardOf(owner, key).Find((owner, key)) as T;
        return value is not null;
    }

    /// <summary>Adds or replaces a value that costs <paramref name="costBytes"/>, dropping others that were not used lately.</summary>
    public void Add(int owner, long key, object value, int costBytes) => ShardOf(owner, key).Add((owner, key), value, costBytes);

    private Shard ShardOf(int owner, long key) =>
        _shards[(uint)HashCode.Combine(owner, key) % ShardCount];

    private sealed class Shard(long budget)
    {
        private readonly Lock _lock = new();
        private readonly Dictionary<(int Owner, long Key), Entry> _entries = [];
        private readonly Queue<Entry> _clock = new();
        private long _used;

        public object? Find((int Owner, long Key) key)
        {
            lock (_lock)
            {
                if (_entries.TryGetValue(key, out var entry))
                {
                    entry.Referenced = true;
                    return entry.Value;
                }

                return null;
            }
        }

        public void Add((int Owner, long Key) key, object value, int cost)
        {
            lock (_lock)
            {
                if (_entries.TryGetValue(key, out var old))
                {
                    _used += cost - old.Cost;
                    (old.Value, old.Cost, old.Referenced) = (value, cost, true);
                }
                else
                {
                    var entry = new Entry { Key = key, Value = value, Cost = cost };
                    _entries.Add(key, entry);
                    _clock.Enqueue(entry);
                    _used += cost;
                }

                // The newest entry always stays, even when it alone is over the budget.
                while (_used > budget && _clock.Count > 1)
                {
                    var candidate = _clock.Dequeue();
                    if (candidate.Referenced || candidate.Key == key)
                    {
                        candidate.Referenced = false;
                        _clock.Enqueue(candidate);
                        if (candidate.Key == key && _clock.Count == 1)
                        {
                            break;
                        }

                        continue;
                    }

                    _entries.Remove(candidate.Key);
                    _used -= candidate.Cost;
                }
            }
        }

        private sealed class Entry
        {
            public required (int Owner, long Key) Key { get; init; }

            public required object Value { get; set; }

            public required int Cost { get; set; }

            public bool Referenced { get; set; }
        }
    }
}
